"""CLIPs from files through the stage: heads, forms of files, resizing inside, and refusals."""

import json
import warnings

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import pipeline
from pipeline.datasets import cifar10
from pipeline.errors import RetortError
from pipeline.models import clip
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.stages import prepare_data, train_teacher
from pipeline.store.artefact import Job, compute_sha256, open_artefact, read_job, write_manifest
from tests.planning.test_plan import edited

MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]
NAMES = [f"kind {name}" for name in cifar10.CLASSES]
VISION = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    """Two tiny models under names of their own: one as ViT-B-16 is built, one as RN101."""
    for name, vision in (("tiny-vit", VISION), ("tiny-rn", RESNET)):
        path = tmp_path_factory.mktemp("models") / f"{name}.json"
        path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT}))
        open_clip.add_model_config(path)


def whole(name: str, seed: int = 0) -> nn.Module:
    """A model of open_clip's at random weights, its BatchNorm statistics not at their start."""
    torch.manual_seed(seed)
    model = clip.build(open_clip.get_model_config(name))
    side = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
    model.train().encode_image(torch.rand(4, 3, side, side))
    return model.eval()


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A function that makes a teacher with an `open_clip` section and returns its job."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (700, 3, 32, 32), dtype=np.uint8)
    monkeypatch.setattr(cifar10, "load", lambda split, cache: (images, rng.integers(0, 10, 700)))

    def make(about: dict, **teacher: object) -> Job:
        section = {"dataset": "tiny", "open_clip": about, "unverified": True, **teacher}
        raw = edited("teachers.robust", section)
        plan = make_plan_from_dict({**raw, "store": str(tmp_path / "store")})
        write_job_files(plan)
        for kind, name, stage in (
            ("dataset", "tiny", prepare_data),
            ("teacher", "robust", train_teacher),
        ):
            job = read_job(plan.folder_path(plan.refs_by_name[kind, name]))
            write_manifest(job, stage.run(job))
        return job

    return make


def pretrained(path, state: dict) -> dict:
    """A file of tensors and the section that names it."""
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return {"path": str(path), "sha256": compute_sha256(path), "mean": MEAN, "std": STD}


def expected(model: nn.Module, name: str, x: torch.Tensor) -> torch.Tensor:
    """Zero-shot logits by open_clip's own parts."""
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    tokenizer, templates = open_clip.get_tokenizer(name), open_clip.SIMPLE_IMAGENET_TEMPLATES
    with torch.no_grad():
        weights = open_clip.build_zero_shot_classifier(model, tokenizer, NAMES, templates)
        return model.logit_scale.exp() * model.encode_image(x, normalize=True) @ weights


FORMS = {
    "state.pt": lambda s: s,
    "state.safetensors": lambda s: s,
    "training.pt": lambda s: {"epoch": 3, "state_dict": {f"module.{n}": v for n, v in s.items()}},
    "half.pt": lambda s: (
        {n: v.half() if v.is_floating_point() else v for n, v in s.items()}
        | {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor(49408)}
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_gives_open_clip_s_own_zero_shot_logits(make, tmp_path, form):
    model = whole("tiny-vit")
    file = pretrained(tmp_path / form, FORMS[form](model.state_dict()))
    about = {"model": "tiny-vit", "pretrained": file, "templates": "simple", "names": NAMES}
    folder = make(about).folder
    tolerance = 0.05 if form == "half.pt" else 1e-5
    wanted = expected(model, "tiny-vit", X)
    with torch.no_grad():
        torch.testing.assert_close(pipeline.load(folder)(X), wanted, atol=tolerance, rtol=0)
    facts = open_artefact(folder).manifest.facts
    assert facts["templates"] == 7
    assert facts["weights"] == file["sha256"]
    assert len(facts["left_out"]) == (2 if form == "half.pt" else 0)


def test_a_file_without_counters_of_batches_is_whole(make, tmp_path):
    model = whole("tiny-rn")
    state = {n: v for n, v in model.state_dict().items() if "num_batches" not in n}
    assert len(state) < len(model.state_dict())
    file = pretrained(tmp_path / "old.pt", state)
    about = {"model": "tiny-rn", "pretrained": file, "templates": "simple", "names": NAMES}
    loaded = pipeline.load(make(about, resize=64).folder)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), expected(model, "tiny-rn", x))


def test_the_teacher_runs_no_text_tower_and_keeps_none(make, tmp_path, monkeypatch):
    file = pretrained(tmp_path / "a.pt", whole("tiny-vit").state_dict())
    folder = make({"model": "tiny-vit", "pretrained": file, "templates": "simple"}).folder
    monkeypatch.setattr(open_clip, "create_model", None)
    monkeypatch.setattr(open_clip, "build_zero_shot_classifier", None)
    loaded = pipeline.load(folder)
    assert loaded(X).shape == (4, 10)
    parts = {name.partition(".")[0] for name in loaded.state_dict()}
    assert parts == {"visual", "normalise", "weights", "scale"}
    assert loaded.classes == tuple(cifar10.CLASSES)


def test_a_model_of_another_side_resizes_where_that_is_said(make, tmp_path):
    model = whole("tiny-rn")
    file = pretrained(tmp_path / "rn.pt", model.state_dict())
    about = {"model": "tiny-rn", "pretrained": file, "templates": "simple", "names": NAMES}
    loaded = pipeline.load(make(about, resize=64).folder)
    large = F.interpolate(X, (64, 64), mode="bicubic", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(loaded(X), expected(model, "tiny-rn", large))
    x = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loaded(x)[:, 0].sum(), x)
    assert (grad.abs() > 0).float().mean() > 0.9


def test_random_weights_are_told_and_repeat(make):
    about = {"model": "tiny-vit", "pretrained": "random", "templates": "simple"}
    one, two = make(about), make(about)
    facts = open_artefact(one.folder).manifest.facts
    assert facts["weights"] == "random"
    assert one.key == two.key
    assert open_artefact(one.folder).manifest.files == open_artefact(two.folder).manifest.files


@pytest.mark.parametrize("unit", [True, False])
def test_a_finetuned_head_is_the_file_s(make, tmp_path, unit):
    model, head = whole("tiny-vit"), nn.Linear(8, 10)
    state = {f"image_encoder.model.visual.{n}": v for n, v in model.visual.state_dict().items()}
    state |= {f"classification_head.{n}": v for n, v in head.state_dict().items()}
    file = pretrained(
        tmp_path / "ft.bin", state | {"image_encoder.model.logit_scale": torch.ones(1)}
    )
    about = {"model": "tiny-vit", "pretrained": file, "head": "finetuned", "unit_features": unit}
    folder = make(about).folder
    x = (X - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        wanted = head(model.encode_image(x, normalize=unit))
        torch.testing.assert_close(pipeline.load(folder)(X), wanted)
    left = open_artefact(folder).manifest.facts["left_out"]
    assert left == ["image_encoder.model.logit_scale"]


def lacking(state: dict) -> None:
    del state["visual.conv1.weight"]


def misshapen(state: dict) -> None:
    state["visual.positional_embedding"] = torch.zeros(50, 16)


def unknown(state: dict) -> None:
    state["visual.extra"] = torch.zeros(1)


def not_finite(state: dict) -> None:
    state["visual.proj"][0, 0] = torch.inf


FAULTS = {
    lacking: r"'visual.conv1.weight' is missing, 1 of \d+ in all; is open_clip.model 'tiny-vit' th",
    misshapen: r"'visual.positional_embedding' is \[50, 16\], the model wants \[5, 16\]; is op",
    unknown: "'visual.extra' is in no such model; is open_clip.model",
    not_finite: "'visual.proj' holds values that are not finite",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_what_does_not_fit_is_named(make, tmp_path, fault):
    state = whole("tiny-vit").state_dict()
    fault(state)
    file = pretrained(tmp_path / "a.pt", state)
    with pytest.raises(RetortError, match=rf"a.pt: {FAULTS[fault]}"):
        make({"model": "tiny-vit", "pretrained": file, "templates": "simple"})


def test_heads_that_do_not_fit_are_named(make, tmp_path):
    state = whole("tiny-vit").state_dict()
    about = {"model": "tiny-vit", "head": "finetuned"}

    def refused(state: dict, words: str) -> None:
        file = pretrained(tmp_path / "ft.pt", state)
        with pytest.raises(RetortError, match=words):
            make(about | {"pretrained": file})

    refused(state, "ft.pt: holds no linear head; name the fine-tuned file, or set head: zeroshot")
    other = state | {"head.weight": torch.zeros(1000, 8)}
    refused(other, r"head: 'weight' is \[1000, 8\], the model wants \[10, 8\]; is it a linear head")
    timm = {"blocks.0.attn.qkv.weight": torch.zeros(1), "head.weight": torch.zeros(10, 8)}
    refused(timm, "holds no image tower 'visual.…'; for a file of timm's give model: timm/<name>")


class Scripted(nn.Module):
    """A model as OpenAI's files wrap theirs for tracing."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(x)


def test_a_torchscript_file_is_read_without_being_run(make, tmp_path, monkeypatch):
    model = whole("tiny-vit")
    path = tmp_path / "openai.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against the form that its users still have
        torch.jit.trace(Scripted(model), X, check_trace=False).save(path)
    monkeypatch.setattr(torch.jit, "load", None)
    file = {"path": str(path), "sha256": compute_sha256(path), "mean": MEAN, "std": STD}
    about = {"model": "tiny-vit", "pretrained": file, "templates": "simple", "names": NAMES}
    with torch.no_grad():
        wanted = expected(model, "tiny-vit", X)
        torch.testing.assert_close(pipeline.load(make(about).folder)(X), wanted)


def test_a_plan_says_which_tensor_of_a_clip_does_not_fit(tmp_path):
    """Another model's file, no linear head, and one over too few classes, before any job."""
    vit = whole("tiny-vit").state_dict()
    tower = {n: v for n, v in vit.items() if n.startswith("visual.")}
    head = {"head.weight": torch.zeros(3, 8)}
    for state, more, words in (
        (vit, {"model": "tiny-rn"}, r"is open_clip.model 'tiny-rn' the right one"),
        (tower, {"model": "tiny-vit", "head": "finetuned"}, "holds no linear head; name the fine"),
        (
            tower | head,
            {"model": "tiny-vit", "head": "finetuned"},
            r"head: 'weight' is \[3, 8\], the",
        ),
    ):
        file = pretrained(tmp_path / "x.pt", state)
        section = {"dataset": "tiny", "open_clip": {"pretrained": file, **more}}
        if more["model"] == "tiny-rn":
            section["resize"] = 64
        with pytest.raises(RetortError, match=rf"^teachers.robust.open_clip.pretrained: .*{words}"):
            make_plan_from_dict(edited("teachers.robust", section))


def test_a_clip_s_moving_average_is_chosen_by_name(make, tmp_path):
    one, two = whole("tiny-vit", 1), whole("tiny-vit", 2)
    content = {"state_dict": one.state_dict(), "state_dict_ema": two.state_dict()}
    file = pretrained(tmp_path / "x.pt", content)
    about = {"model": "tiny-vit", "pretrained": file, "templates": "simple", "names": NAMES}
    with pytest.raises(RetortError, match="that fit, state_dict, state_dict_ema; choose one with"):
        make(about)
    loaded = pipeline.load(make({**about, "pretrained": {**file, "take": "state_dict_ema"}}).folder)
    with torch.no_grad():
        torch.testing.assert_close(loaded(X), expected(two, "tiny-vit", X), atol=1e-5, rtol=0)


def test_a_clip_near_chance_stops_its_stage(make, tmp_path):
    file = pretrained(tmp_path / "x.pt", whole("tiny-vit").state_dict())
    about = {"model": "tiny-vit", "pretrained": file, "templates": "simple", "names": NAMES}
    with pytest.raises(RetortError, match=r"x.pt: right on .* where chance is .*unverified: true"):
        make(about, unverified=False)
    make({**about, "pretrained": "random"}, unverified=False)
