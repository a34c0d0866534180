"""Every recipe of DAD's and DERD's presets: epochs, rate, batch, weight decay and schedule."""

import pytest

from pipeline.config.recipe import Recipe
from pipeline.training.optim import compute_learning_rate
from tests.config.test_presets import NAMES, config

SGD, ADAMW = "sgd", "adamw"
TUNE = (30, 1e-4, 256, 0.05, ADAMW, "cosine")  # the released script's: 8 x 32, from a trained ViT
AUGREG = (300, 1e-3, 1024, 0.05, ADAMW, "cosine")  # batch and rate are DAT's
LONG = (2000, 0.01, 512, 5e-4, SGD, "step")  # DERD, Sec. 4.1
USUAL = (200, 0.1, 128, 5e-4, SGD, "step")
PEER = (200, 0.1, 256, 1e-4, SGD, "cosine")  # of the data-free baselines' code
DAD = {
    "augreg": AUGREG,
    "augreg-whole": AUGREG,
    "plain": AUGREG,
    "views": AUGREG,
    "tune": TUNE,
    "tune-plain": TUNE,
    "resnet": (100, 0.1, 256, 1e-4, SGD, "cosine"),  # «official settings»; the rest is ours
}
DERD = {
    "teacher": LONG,
    "stage-1": LONG,
    "stage-2": (100, 0.01, 512, 5e-4, SGD, "step"),
    "early": (200, 0.01, 512, 5e-4, SGD, "step"),
    "common": USUAL,
    "baseline": PEER,
    "cmi": PEER,
}
IMAGENET_100 = {  # fine-tuning at 1e-4; the teachers' recipe is ours
    "teacher": (100, 5e-4, 128, 0.05, ADAMW, "cosine"),
    "stage-1": (2000, 1e-4, 512, 5e-4, SGD, "step"),
    "stage-2": (100, 1e-4, 512, 5e-4, SGD, "step"),
}
WANTED = {
    "dad-imagenet-vitb": DAD,
    "dad-imagenet-rn50": DAD,
    "dad-imagenet-ablations": DAD,
    "derd-cifar10": DERD | {"dfhl": (300, 0.1, 256, 1e-4, SGD, "cosine")},
    "derd-cifar100": DERD | {"dfhl": (300, 0.1, 512, 1e-4, SGD, "cosine")},
    "derd-imagenet100": IMAGENET_100,
}
WARM_EPOCHS = {"augreg": 5, "augreg-whole": 5, "plain": 5, "views": 5, "tune": 5, "tune-plain": 5}
FIRST_LOWER = {  # epochs, from 1, that are the first at a tenth of the rate before
    2000: [801, 1601],
    200: [101, 151],
    100: [41, 81],
    "early": [81, 161],
}


def recipes(preset: str) -> dict[str, Recipe]:
    """A preset's recipes by name."""
    return {name: Recipe.model_validate(raw) for name, raw in config(preset).recipes.items()}


def test_every_preset_of_dad_and_derd_is_looked_at():
    """But for Fashion-MNIST's, whose small recipes are ours."""
    found = {name for name in NAMES if name.startswith(("dad", "derd"))}
    assert found == {*WANTED, "derd-fashion"}


@pytest.mark.parametrize("preset", WANTED)
def test_recipes_have_the_papers_or_the_codes_settings(preset):
    for name, recipe in recipes(preset).items():
        about = (recipe.epochs, recipe.lr, recipe.batch, recipe.weight_decay)
        assert (*about, recipe.optimizer, recipe.schedule) == WANTED[preset][name], name
        if recipe.optimizer == SGD:
            assert recipe.momentum == 0.9, name


@pytest.mark.parametrize("preset", WANTED)
def test_rates_rise_and_fall_in_the_epochs_that_they_should(preset):
    for name, recipe in recipes(preset).items():
        assert recipe.epochs * recipe.warmup == pytest.approx(
            WARM_EPOCHS.get(name, 5 if preset == "derd-imagenet100" and name == "teacher" else 0)
        ), name
        n = recipe.epochs
        rates = [compute_learning_rate(recipe, epoch / n) for epoch in range(n)]
        warm = round(n * recipe.warmup)
        assert max(rates) == pytest.approx(recipe.lr) == pytest.approx(rates[warm]), name
        falls = [i + 1 for i in range(1, n) if rates[i] < rates[i - 1]]
        if recipe.schedule == "step":
            assert falls == FIRST_LOWER.get(name, FIRST_LOWER[n]), name
            assert rates[-1] == pytest.approx(recipe.lr / 100)
        else:
            assert falls == list(range(warm + 2, n + 1)), name


def test_what_trains_with_which_recipe():
    """Table 4 of DAD tunes; baselines of DERD have their code's, DFHL-RS its own."""
    vitb = config("dad-imagenet-vitb").students
    asked = {
        n: recipes("dad-imagenet-vitb")[r] for n, r in (("dad", "tune"), ("vit", "tune-plain"))
    }
    for name, recipe in asked.items():
        assert vitb[f"{name}-in21k"].recipe == recipe
    assert config("dad-imagenet-rn50").students["rn50"].recipe.lr == 0.1
    for preset in ("derd-cifar10", "derd-cifar100"):
        found, students = recipes(preset), config(preset).students
        for method in ("dafl", "dfad", "zskt", "dfard"):
            assert students[f"{method}-rn18"].recipe == found["baseline"], method
        for name, recipe in (("cmi", "cmi"), ("dfhl_rs", "dfhl"), ("ard", "common")):
            assert students[f"{name}-rn18"].recipe == found[recipe], name


@pytest.mark.parametrize(
    "preset", ["dad-imagenet-vitb", "dad-imagenet-rn50", "dad-imagenet-ablations"]
)
def test_biases_of_dads_vits_do_not_decay(preset):
    for name, recipe in recipes(preset).items():
        assert recipe.decay_biases is (recipe.optimizer == SGD), name
        clip = {"tune": 0.99, "tune-plain": 0.99, "resnet": 0}.get(name, 1)
        assert recipe.clip_grad == clip, name


@pytest.mark.parametrize("classes", [10, 100])
def test_recent_methods_and_zskt_have_their_codes_settings(classes):
    """CIARD's rate by its code's formula, without the factor that ends at 0.99."""
    name = f"recent-cifar{classes}"
    students, recipe = config(name).students, recipes(name)["ciard"]
    for epoch, rate in ((149, 0.1), (200, 0.075), (285, 0.00245)):
        assert compute_learning_rate(recipe, epoch / 300) == pytest.approx(rate, rel=2e-3)
    for student in ("rn18", "mnv2"):
        assert students[f"ciard-{student}"].recipe == recipe
        assert students[f"ciard-{student}"].objective["ciard"]["kd_scale"] == 0.1
        assert students[f"iad2-{student}"].objective["iad2"]["attack_bn"] == "train"
    derd = config(f"derd-cifar{classes}")
    assert derd.generators["zskt-rn18"].clip_grad == derd.generators["zskt-mnv2"].clip_grad
    assert derd.generators["zskt-rn18"].clip_grad == 5 * classes
    assert derd.students["pgd_at-rn18"].normalise == "none"
