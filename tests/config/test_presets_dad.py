"""DAD's presets: every section has the networks and methods of the printed row."""

import ast
from pathlib import Path

import open_clip.pretrained
import pytest

from tests.config.test_presets import config, rows

MODELS = {  # as printed -> timm's name
    "ViT-B/16": "vit_base_patch16_224",
    "ViT-B": "vit_base_patch16_224",
    "ViT-S": "vit_small_patch16_224",
    "ResNet50": "resnet50",
    "RN50": "resnet50",
    "ResNet34": "resnet34",
    "RN34": "resnet34",
}
TEACHERS = {  # as printed -> section and its network
    "CLIP-ViT-L/14": ("clip", "ViT-L-14-quickgelu"),
    "CLIP-ViT-L": ("clip", "ViT-L-14-quickgelu"),
    "CLIP-RN101": ("clip-rn101", "RN101-quickgelu"),
    "RN50 + AugMix": ("rn50-augmix", "timm/resnet50"),
    "ViT-B + DAT": ("vitb-dat", "timm/vit_base_patch16_224+drop_path=0.25"),
}
METHODS = {  # as printed -> objective
    **dict.fromkeys(("ViT", "AugReg-ViT", "ResNet50", "original", "no teacher"), "natural"),
    **dict.fromkeys(("ViT-B", "ImageNet"), "natural"),
    **dict.fromkeys(("DAT", "AugReg-ViT + DAT", "ResNet50 DAT", "ViT-B - DAT"), "dat"),
    **dict.fromkeys(("DAD", "ResNet50 DAD", "ViT-B - DAD"), "dad"),
    **dict.fromkeys(("VQGAN", "VQGAN - Sample", "VQGAN - Grad", "Stable-Diffusion"), "dad"),
    **dict.fromkeys(("DAT + DAD", "AugReg-ViT + DAT + DAD"), "dat_dad"),
    "KD": "kd",
    "DIST": "dist",
    "ARD": "ard_dad",
    "RSLAD": "rslad_dad",
}
ROWS = [row for row in rows() if row["paper"] == "dad" and row["entry"].startswith("students.")]
PRESETS = ("dad-imagenet-vitb", "dad-imagenet-rn50", "dad-imagenet-ablations")


def of(row: dict[str, str]):
    """The configuration and the student of a row."""
    setup = config(row["preset"])
    return setup, setup.students[row["entry"].removeprefix("students.")]


def test_rows_have_the_printed_networks_and_teachers():
    for row in ROWS:
        setup, student = of(row)
        assert student.model.partition("+")[0] == f"timm/{MODELS[row['student']]}", row
        for teacher in student.teachers.values():
            known = {**setup.teachers, **setup.students}[teacher]
            clip = getattr(known, "open_clip", None)
            model = clip.model if clip else known.model
            if row["table"] == "7":  # this table prints no teacher
                assert teacher == "clip"
            else:
                assert (teacher, model) == TEACHERS[row["teacher"]], row
        assert bool(student.teachers) == bool(row["teacher"]) or row["table"] == "7", row
    assert len(ROWS) > 370


def test_rows_have_the_printed_methods():
    for row in ROWS:
        setup, student = of(row)
        (objective,) = student.objective
        if row["method"] == "AugReg-ViT + DAD":  # Table 6: only as augmentation
            assert objective == ("dad_augment" if row["table"] == "6" else "dad")
        else:
            assert objective == METHODS[row["method"]], row
        if student.bank:
            bank = setup.banks[student.bank]
            assert (bank.attack is None) == (row["method"] == "VQGAN - Sample"), row
            is_generated = row["method"] == "Stable-Diffusion"
            assert bank.discretizer == (None if is_generated else "vq-f8")
            assert bank.images == ("generated" if is_generated else None)
            assert set(student.teachers.values()) <= {bank.teacher}


@pytest.mark.parametrize("name", PRESETS)
def test_every_student_is_tested_on_all_seven_sets(name):
    suites = config(name).suites
    shown = {suite.dataset for suite in suites.values() if suite.dataset}
    sets = {n: s for n, s in config(name).datasets.items() if n != "generated"}
    assert shown == set(sets) - {"imagenet"} and len(sets) == 7
    (clean,) = suites["main"].attacks
    assert suites["main"].dataset is None and set(clean) == {"clean"}
    counts = {n: s.test for n, s in sets.items()}
    assert counts["imagenet-c"] == 75 * counts["imagenet"] == 75 * counts["stylized"]


def test_the_sums_of_openai_s_files_are_the_published_ones():
    """They are in the addresses of open_clip's table, which is read as text."""
    strings = {
        node.value
        for node in ast.walk(ast.parse(Path(open_clip.pretrained.__file__).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    checked = 0
    for name in PRESETS:
        for teacher in config(name).teachers.values():
            if teacher.open_clip is not None:
                file = teacher.open_clip.pretrained
                end = f"/{file.sha256}/{Path(file.path).name}"
                assert any(text.endswith(end) for text in strings), file
                checked += 1
    assert checked == 5


def test_dad_s_settings_are_the_paper_s():
    setup = config("dad-imagenet-vitb")
    attack, dad = setup.banks["dad"].attack, setup.students["dad"].objective["dad"]
    assert (attack.norm, attack.eps, attack.step, attack.steps) == ("l2", 0.1, 0.1, 1)
    assert (attack.start_probability, attack.grad_path) == (0.8, "identity")
    assert dad == {"alpha": 0.5, "temperature": 4.0}
    recipe = setup.students["dad"].recipe
    assert (recipe.mixup, recipe.cutmix, recipe.smoothing, recipe.erase) == (0.8, 1.0, 0.1, 0.25)
    assert (recipe.weight_decay, recipe.ema, 300 * recipe.warmup) == (0.05, 0.99992, 5)
