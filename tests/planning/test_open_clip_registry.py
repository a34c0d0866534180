"""CLIPs from files in a plan: keys by sums, words and colours; every refusal."""

import copy

import pytest

from pipeline.datasets.cifar10 import CLASSES as CIFAR
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.open_clip_registry import (
    list_prompt_names,
    load_imagenet_names,
    look_up_statistics,
)
from tests.planning.test_plan import edited, keys, small

SUM = "c" * 64
FILE = {"path": "clip.pt", "sha256": SUM, "tag": "openai"}
QUICK = {"model": "ViT-L-14-quickgelu", "pretrained": FILE}


def with_clip(about: dict | None = None, **teacher: object) -> dict:
    """The small experiment with a CLIP from a file as its robust teacher, resizing inside."""
    section = {"dataset": "tiny", "open_clip": about or QUICK, "resize": 224, **teacher}
    return edited("teachers.robust", {k: v for k, v in section.items() if v is not None})


def clip_entry(raw: dict):
    plan = make_plan_from_dict(raw)
    return plan.artefacts[plan.refs_by_name["teacher", "robust"]]


def test_the_key_holds_sum_words_and_colours_but_no_place():
    entry = clip_entry(with_clip())
    told = entry.spec["open_clip"]
    assert told["pretrained"] == SUM
    assert told["prompted"][:2] == ["airplane", "automobile"]
    assert told["mean"][0] == pytest.approx(0.48145466)
    assert entry.outside_paths == {"checkpoint": "clip.pt"}
    assert "seed" not in entry.spec
    base = keys(with_clip())["teacher/robust"]
    same = [
        QUICK | {"pretrained": FILE | {"path": "elsewhere.pt"}},
        QUICK | {"templates": "openai", "head": "zeroshot"},
        QUICK | {"pretrained": FILE | {"mean": told["mean"], "std": told["std"]}},
        QUICK | {"names": told["prompted"]},
    ]
    for model in same:
        assert keys(with_clip(model))["teacher/robust"] == base
    other = [
        QUICK | {"pretrained": FILE | {"sha256": "d" * 64}},
        QUICK | {"templates": "simple"},
        QUICK | {"pretrained": FILE | {"mean": [0.5] * 3, "std": [0.5] * 3}},
        QUICK | {"names": [f"a {name}" for name in told["prompted"]]},
        QUICK | {"pretrained": "random"},
    ]
    assert base not in {keys(with_clip(model))["teacher/robust"] for model in other}


def test_training_code_is_not_in_the_key_of_a_clip_from_a_file():
    code = clip_entry(with_clip()).code
    assert {
        "pipeline.stages.open_clip_teacher",
        "pipeline.models.clip",
        "pipeline.models.pretrained.checkpoint_files",
    } <= code.keys()
    assert not {"pipeline.training.loop", "pipeline.stages.train_teacher"} & code.keys()


def test_random_weights_are_named_and_seeded():
    entry = clip_entry(with_clip({"model": "RN101", "pretrained": "random"}))
    assert entry.spec["open_clip"]["pretrained"] == "random"
    assert entry.spec["seed"] == 0
    assert entry.outside_paths == {}


def test_every_teacher_of_the_paper_s_table_5_can_be_written():
    raw = copy.deepcopy(small())
    raw["datasets"]["large"] = {"source": {"imagenet100": {}}, "train": 100, "test": 50}
    recipe = {"epochs": 1, "batch": 32}
    raw["teachers"] |= {
        "clip-vitl": {"dataset": "large", "open_clip": QUICK},
        "clip-rn101": {
            "dataset": "large",
            "open_clip": {"model": "RN101-quickgelu", "pretrained": FILE},
        },
        "vitb-dat": {
            "dataset": "large",
            "model": "timm/vit_base_patch16_224",
            "checkpoint": {"path": "dat.pt", "sha256": SUM},
        },
        "rn50": {
            "dataset": "large",
            "model": "timm/resnet50",
            "checkpoint": {"path": "rn50.pt", "sha256": SUM},
        },
        "clip-ft": {
            "dataset": "large",
            "model": "timm/vit_large_patch14_clip_224",
            "checkpoint": {"path": "clip_ft.bin", "sha256": SUM},
        },
    }
    student = {"dataset": "large", "model": "timm/resnet50", "recipe": recipe}
    raw["students"]["ours"] = student | {"objective": "natural"}
    for teacher in ("clip-vitl", "clip-rn101", "vitb-dat", "rn50", "clip-ft", "ours"):
        raw["students"][f"of-{teacher}"] = student | {"teacher": teacher, "objective": "kd"}
    plan = make_plan_from_dict(raw)
    assert ("student", "of-clip-rn101-0") in plan.refs_by_name
    assert plan.artefacts[plan.refs_by_name["student", "of-ours-0"]].inputs[
        "teachers.teacher"
    ].kind == ("student")


CLIP_FAULTS = {
    "unknown model": ({"model": "ViT-L14"}, "open_clip.model: open_clip has no 'ViT-L14'; did you"),
    "captions": ({"model": "coca_ViT-B-32"}, "open_clip.model: 'coca_ViT-B-32' writes captions"),
    "tokenizer": ({"model": "ViT-B-16-SigLIP"}, "the tokenizer of 'ViT-B-16-SigLIP' is not part"),
    "activation": ({"model": "ViT-L-14"}, "were trained with QuickGELU, 'ViT-L-14' has none; name"),
    "no tag": (
        {"model": "ViT-L-14", "pretrained": {"path": "x", "sha256": SUM}},
        "open_clip.pretrained: weights of ViT-L-14 differ in mean, std or activation; say whose",
    ),
    "tag": (
        {"pretrained": FILE | {"tag": "opnai"}},
        "pretrained.tag: ViT-L-14-quickgelu has no weights 'opnai'; did you mean 'openai'",
    ),
    "a name": ({"pretrained": "openai"}, "open_clip.pretrained: give the local file"),
    "no sum": (
        {"pretrained": {"path": "x"}},
        "open_clip.pretrained.sha256: is missing; give the file's sha256",
    ),
    "one colour": (
        {"pretrained": FILE | {"mean": [0.5] * 3}},
        "open_clip.pretrained: give 'mean' and 'std', or neither",
    ),
    "tuned random": (
        {"pretrained": "random", "head": "finetuned"},
        "open_clip: head: a finetuned head comes from a file",
    ),
    "tuned prompts": (
        {"head": "finetuned", "templates": "simple"},
        "open_clip: head: a finetuned head has no prompts",
    ),
    "unit": ({"unit_features": False}, "unit_features: a zero-shot head's are always"),
    "too few names": ({"names": ["cat", "dog"]}, "names: 2 names, the data set has 10 classes"),
    "other order": (
        {"names": [CIFAR[1], CIFAR[0], *CIFAR[2:]]},
        "names: the classes stand in another order: class 0 of the data set is 'airplane', of the",
    ),
    "no such class": ({"names": {"catt": "a cat"}}, "names: 'catt' is no class of the data set"),
    "nameless": ({"names": {"cat": "a cat"}}, "names: class 'airplane' has no name; name every"),
    "not imagenet": ({"names": "imagenet"}, "names: class 'airplane' has no name; ImageNet's cl"),
    "bad names": ({"names": 3}, "open_clip.names: give 'dataset', 'imagenet', a list"),
}


@pytest.mark.parametrize("fault", CLIP_FAULTS)
def test_bad_clip_sections(fault):
    changes, words = CLIP_FAULTS[fault]
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(with_clip(QUICK | changes))
    assert words in str(caught.value)
    assert str(caught.value).startswith("teachers.robust.open_clip")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ({"resize": None}, "takes images of 224x224 px, data set 'tiny' has 32x32; name a model"),
        ({"resize": 64}, "takes images of 224x224 px, resize makes them 64x64"),
        ({"epochs": 3}, "open_clip: is not trained; drop objective, recipe and epochs"),
        (
            {"normalise": "none"},
            "normalise: an open_clip model has its own; give open_clip.pretrained",
        ),
        ({"model": "wrn-10-1"}, "give exactly one of 'model', 'clip' and 'open_clip'"),
        ({"checkpoint": FILE | {"tag": None}}, "checkpoint.tag: unknown"),
        ({"resize": 0}, "teachers.robust.resize: a whole number above 0 is expected"),
    ],
)
def test_what_does_not_go_with_a_clip(teacher, words):
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(with_clip(**teacher))
    assert words in str(caught.value)


def test_only_files_resize():
    with pytest.raises(RetortError, match="resize: goes with 'checkpoint' or 'open_clip'"):
        make_plan_from_dict(edited("teachers.natural.resize", 64))
    base = {"dataset": "tiny", "model": "timm/vit_tiny_patch16_224"}
    base["checkpoint"] = {"path": "vit.pt", "sha256": SUM}
    with pytest.raises(RetortError, match="takes images of 224x224 px, data set 'tiny' has 32x32"):
        make_plan_from_dict(edited("teachers.robust", base))
    assert make_plan_from_dict(edited("teachers.robust", base | {"resize": 224}))


def test_a_checkpoint_may_say_its_classes():
    base = {"dataset": "tiny", "model": "wrn-10-1"}

    def of(*classes: str) -> dict:
        file = {"path": "x.pt", "sha256": SUM, "classes": list(classes)}
        return edited("teachers.robust", base | {"checkpoint": file})

    plain = edited("teachers.robust", base | {"checkpoint": {"path": "x.pt", "sha256": SUM}})
    assert keys(of(*CIFAR)) == keys(plain)
    with pytest.raises(RetortError, match="classes: 9 names, the data set has 10 classes"):
        make_plan_from_dict(of(*CIFAR[1:]))
    with pytest.raises(RetortError, match="another order: class 0 .* 'airplane', of the list 'tru"):
        make_plan_from_dict(of(*reversed(CIFAR)))
    with pytest.raises(RetortError, match="class 9 is 'lorry', of the data set 'truck'"):
        make_plan_from_dict(of(*CIFAR[:-1], "lorry"))


def test_imagenet_s_names_follow_the_class_whatever_the_order():
    assert list_prompt_names(["n01443537", "n01440764"], "imagenet") == ["goldfish", "tench"]
    assert list_prompt_names(["0", "10", "2"], "imagenet") == [
        load_imagenet_names()[n] for n in ("0", "10", "2")
    ]
    assert len(load_imagenet_names()) == 2000
    with pytest.raises(RetortError, match="another order, as text sorts numbers: class 2 of the"):
        list_prompt_names(["0", "1", "2", "10"], ["0", "1", "10", "2"])
    assert list_prompt_names(["a", "b"], {"b": "bee", "a": "ay"}) == ["ay", "bee"]


def test_colours_are_told_by_the_tag_alone():
    assert look_up_statistics("ViT-L-14", "laion2b_s32b_b82k")[0] == (0.5, 0.5, 0.5)
    assert look_up_statistics("ViT-L-14-quickgelu", "openai")[0] == pytest.approx(
        (0.48145466, 0.4578275, 0.40821073)
    )
    assert look_up_statistics("ViT-B-16-SigLIP", None) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("discretizers.vq.unshuffle", 3, "discretizers.vq: a token stands for 3x3 px, data set"),
        ("discretizers.vq.ch", 48, "discretizers.vq.ch: 48 is no multiple of 32"),
    ],
)
def test_a_discretiser_that_cannot_be_built_is_refused(key, value, words):
    with pytest.raises(RetortError, match=words):
        make_plan_from_dict(edited(key, value))


def test_tokens_cover_the_images_of_a_bank_and_of_a_student():
    raw = edited("datasets.odd", {"source": {"imagenet100": {"size": 35}}, "train": 128, "test": 8})
    raw["teachers"]["odd"] = {"dataset": "odd", "model": "resnet8-s2-w8", "recipe": "tiny"}
    bank = edited("banks.dad", {"dataset": "odd", "teacher": "odd", "discretizer": "vq"}, raw)
    with pytest.raises(RetortError, match="banks.dad.discretizer: a token stands for 2x2 px, data"):
        make_plan_from_dict(bank)
    student = {"dataset": "odd", "discretizer": "vq", "model": "resnet8-s2-w8", "objective": "dat"}
    with pytest.raises(RetortError, match="students.dat.discretizer: a token stands for 2x2 px"):
        make_plan_from_dict(edited("students.dat", student, raw))
