"""Students that begin with weights from elsewhere, and networks that drop branches in training."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import RetortError
from pipeline.models.classifier import build_classifier, initialise_classifier
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan
from tests.helpers.making import made
from tests.helpers.pictures import CLASSES, folders, source

MODEL = "timm/resnet10t"
COLOURS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}


def foreign(path: Path, classes: int = 7, **changed: object) -> tuple[dict, dict]:
    """A checkpoint under timm's own names, and the `init` that names it."""
    state = initialise_classifier(
        MODEL, classes, (0, 0, 0), (1, 1, 1), 9
    ).network.model.state_dict()
    state = {name: value for name, value in (state | changed).items() if value is not None}
    save_file({name: value.clone() for name, value in state.items()}, path)
    return state, {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def planned(tmp_path: Path, init: dict | None, model: str = MODEL, **more: object) -> Plan:
    recipe = {"epochs": 1, "batch": 4, "lr": 1e-9, "weight_decay": 0, "augment": "resized_crop"}
    student = {"dataset": "d", "model": model, "objective": "natural", "recipe": recipe} | more
    data = {"source": source(tmp_path / "images", size=32), "train": 8, "test": 1}
    raw = {
        "store": str(tmp_path / "store"),
        "run": {"data": str(tmp_path)},
        "datasets": {"d": data},
    }
    return make_plan_from_dict(
        raw | {"students": {"s": student | ({"init": init} if init else {})}}
    )


@pytest.fixture
def images(tmp_path) -> Path:
    return folders(folders(tmp_path / "images"), split="val", each=1)


def trained(plan: Plan) -> dict:
    """The weights that the student saved."""
    return load_file(made(plan)["student/s-0"].get_verified_path("model.safetensors"))


@pytest.mark.parametrize("form", ["other head", "no head", "same head"])
def test_a_student_begins_with_the_file_s_weights(form, images, tmp_path):
    absent = {"fc.weight": None, "fc.bias": None} if form == "no head" else {}
    state, init = foreign(tmp_path / "w.safetensors", 3 if form == "same head" else 7, **absent)
    saved = trained(planned(tmp_path, init | COLOURS))
    torch.testing.assert_close(saved["network.model.conv1.0.weight"], state["conv1.0.weight"])
    own = initialise_classifier(MODEL, 3, (0, 0, 0), (1, 1, 1), 0).network.model.fc.weight
    expected = state["fc.weight"] if form == "same head" else own
    torch.testing.assert_close(saved["network.model.fc.weight"], expected)
    torch.testing.assert_close(saved["mean"].flatten(), torch.tensor(COLOURS["mean"]))


def test_the_sum_is_in_the_key_and_the_place_is_not(images, tmp_path):
    _, init = foreign(tmp_path / "w.safetensors")
    keys = [
        plan.refs_by_name["student", "s-0"]
        for plan in (
            planned(tmp_path, init),
            planned(tmp_path, init | {"path": "elsewhere"}),
            planned(tmp_path, init | {"sha256": "0" * 64}),
            planned(tmp_path, init | COLOURS),
            planned(tmp_path, None),
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    entry = planned(tmp_path, init).artefacts[keys[0]]
    assert "pipeline.models.pretrained.finetune_init" in entry.code


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ({"layer1.0.conv1.weight": torch.zeros(3, 3)}, r"'layer1.0.conv1.weight' is \[3, 3\], the"),
        ({"layer9.weight": torch.zeros(3)}, "'layer9.weight' is in no such model"),
        ({"layer1.0.conv1.weight": None}, "layer1.0.conv1.weight' is missing, 1 of"),
    ],
)
def test_a_file_of_another_model_is_refused(harm, message, images, tmp_path):
    _, init = foreign(tmp_path / "w.safetensors", **harm)
    with pytest.raises(RetortError, match=message):
        trained(planned(tmp_path, init))


def test_an_altered_file_is_refused(images, tmp_path):
    _, init = foreign(tmp_path / "w.safetensors")
    with pytest.raises(RetortError, match=f"sha256 is {init['sha256']}, expected 0000"):
        trained(planned(tmp_path, init | {"sha256": "0" * 64}))


def test_init_goes_with_one_normalisation(tmp_path):
    init = {"path": "w", "sha256": "0" * 64}
    with pytest.raises(RetortError, match=r"students.s: normalise: init.mean says otherwise"):
        planned(tmp_path, init | COLOURS, normalise="none")
    with pytest.raises(RetortError, match=r"students.s: init.classes: a head of other classes"):
        planned(tmp_path, init | {"classes": list(CLASSES)})


# Drop-path


def test_branches_are_dropped_in_training_alone():
    model = build_classifier(f"{MODEL}+drop_path=0.9", 3, (0, 0, 0), (1, 1, 1))
    x = torch.rand(1, 3, 32, 32).expand(8, -1, -1, -1)
    branches = [m for m in model.eval().modules() if type(m).__name__ == "DropPath"]
    assert [m.drop_prob for m in branches] == pytest.approx([0.3, 0.6, 0.9])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm starts the last norm of a branch at zero
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert model(x).std(0).max() < 1e-5
        for branch in branches:
            branch.train()
        assert model(x).std(0).max() > 1e-3


def test_what_drop_path_draws_is_the_step_s(images, tmp_path):
    """Weights do not depend on what the process drew before, so interruptions change nothing."""
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            recipe = {"epochs": 1, "batch": 4, "lr": 0.5, "augment": "none"}
            plan = planned(tmp_path / str(seed), None, f"{MODEL}+drop_path=0.5", recipe=recipe)
            folders(folders(tmp_path / str(seed) / "images"), split="val", each=1)
            found.append(trained(plan))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_a_model_without_branches_says_so():
    with pytest.raises(RetortError, match=r"drop_path=0.1': it has no branches to drop; drop '.dr"):
        build_classifier("timm/vgg11+drop_path=0.1", 3, (0, 0, 0), (1, 1, 1))


def test_a_plan_says_which_initial_weight_does_not_fit(images, tmp_path):
    _, init = foreign(tmp_path / "w.safetensors", 7, **{"bn1.weight": torch.zeros(5)})
    with pytest.raises(RetortError, match=r"^students.s.init: .*'bn1.weight' is \[5\], the model"):
        planned(tmp_path, init)
    _, init = foreign(tmp_path / "w.safetensors", 7)
    planned(tmp_path, init)
