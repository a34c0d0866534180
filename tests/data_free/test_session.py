"""From a generator's spec to its source: sizes, channels, and a student's overrides."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Roles
from pipeline.data_free.generator_batches import GeneratorSource
from pipeline.data_free.replay_pool import compute_grid_epochs
from pipeline.data_free.session import GeneratorArtefact, make_source
from pipeline.data_free.teacher_view import GeneratedBatch
from pipeline.models.classifier import initialise_classifier
from pipeline.objectives import derd
from pipeline.store.artefact import Artefact, Manifest
from pipeline.training.loop import fit
from pipeline.training.state import CheckpointSettings, copy_weights
from tests.helpers.specs import generator_spec

SPEC = {
    "seed": 0,
    "latent": 8,
    "channels": 8,
    "image": 16,
    "drawn": 0,
    "steps_per_epoch": 3,
    "replayed": 0,
    "pool": 0,
    "lr_generator": 1e-3,
    "weights": {},
}
RECIPE = Recipe(epochs=2, batch=4, augment="none")


def about(colours: int) -> dict:
    """The metadata of a student's file."""
    return {"classes": ["a", "b", "c"], "mean": [0.5] * colours, "std": [0.25] * colours}


@pytest.mark.parametrize(("colours", "side"), [(3, 32), (1, 28), (1, 16)])
def test_images_have_the_teachers_colours_and_side(colours, side):
    source = make_source(generator_spec({**SPEC, "image": side}), about(colours), RECIPE, 0, "cpu")
    images = source.network(torch.randn(2, 8))
    assert images.shape == (2, colours, side, side)
    assert source.steps == 3


def trained(
    models: dict[str, str], side: int, tmp_path, learns: bool = True, **more
) -> tuple[dict, GeneratorSource]:
    """The record and the source of one epoch of one DERD step with the named networks."""
    networks = {
        role: initialise_classifier(name, 3, (0.5,) * 3, (0.25,) * 3, seed).eval()
        for seed, (role, name) in enumerate(models.items())
    }
    student = networks.pop("student")
    teachers = {role: network.requires_grad_(False) for role, network in networks.items()}
    spec = generator_spec({**SPEC, "image": side, "steps_per_epoch": 1, **more})
    recipe = Recipe(epochs=1, batch=2, lr=0.01, augment="none")
    source = make_source(spec, about(3), recipe, 0, "cpu", learns=learns)
    before = copy_weights(student)
    fitted = fit(
        Roles(student, teachers),
        derd.Objective(steps=1),
        source,
        recipe,
        CheckpointSettings(tmp_path),
    )
    assert any(not torch.equal(value, before[key]) for key, value in copy_weights(student).items())
    return fitted.history[0], source


@pytest.mark.parametrize("student", ["mobilenetv2", "resnet18-w4"])
def test_teachers_and_student_may_be_of_different_kinds(student, tmp_path):
    models = {"natural": "resnet50-w4", "robust": "wrn-10-1", "student": student}
    record, _ = trained(models, 32, tmp_path)
    assert {"natural", "robust", "sga", "cosine"} <= record.keys()


def test_vision_transformers_at_224_pixels(tmp_path):
    models = dict.fromkeys(("natural", "robust", "student"), "timm/vit_tiny_patch16_224")
    record, source = trained(models, 224, tmp_path, doublings=4, channels=16, pool=2)
    assert all(math.isfinite(value) for value in record.values())
    assert source.pool.images.shape == (2, 3, 224, 224)


def test_a_teacher_without_batchnorm_drops_the_statistics():
    """Without BatchNorm only L_BN is missing; the other three losses reach the generator."""
    source = make_source(
        generator_spec({**SPEC, "image": 32, "steps_per_epoch": 1}), about(3), RECIPE, 0, "cpu"
    )
    teacher = initialise_classifier("vit-tiny-p16", 3, (0.5,) * 3, (0.25,) * 3, 0).eval()
    before = copy_weights(source.network)
    terms = {}
    whole = source.loss

    def watched(made: GeneratedBatch) -> dict:
        terms.update(whole(made))
        return terms

    source.loss = watched
    next(
        source.iterate_batches(
            0, 0, Roles(nn.Identity(), {"natural": teacher.requires_grad_(False)})
        )
    )
    assert set(terms) == {"oh", "activation", "balance"}
    assert not torch.equal(source.network.start.weight, before["start.weight"])


@pytest.mark.parametrize("epochs", [1, 10])
def test_grids_are_taken_at_shares_of_the_run(epochs):
    assert compute_grid_epochs((0.0, 0.25, 0.5, 1.0), epochs) == (
        {0} if epochs == 1 else {0, 2, 5, 9}
    )


def test_a_student_may_stop_the_generator(tmp_path):
    models = {"natural": "resnet8-s2-w4", "robust": "resnet8-s2-w4", "student": "resnet8-s2-w4"}
    _, source = trained(models, 16, tmp_path, learns=False)
    fresh = make_source(generator_spec(SPEC), about(3), RECIPE, 0, "cpu").network.state_dict()
    for key, value in source.network.state_dict().items():
        assert torch.equal(value, fresh[key])


def test_the_generators_teacher_is_found_by_its_artefact_and_natural_comes_first():
    manifest = Manifest("generator", "g", "k", {}, {"teacher": "teacher/aa"}, {}, {}, {})
    warm = GeneratorArtefact(Artefact(Path("store/generator/k"), manifest))
    folders = {key: Path("store/teacher") / key for key in ("aa", "bb")}
    inputs = {"teachers.robust": folders["aa"], "teachers.natural": folders["bb"]}
    assert warm.find_teacher_role({**inputs, "generator": Path("store/generator/k")}) == "robust"
    assert warm.find_teacher_role({**inputs, "teachers.natural": folders["aa"]}) == "natural"
    assert warm.find_teacher_role({"teachers.t": folders["aa"]}) == "t"
