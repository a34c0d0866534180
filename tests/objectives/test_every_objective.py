"""The contract of every objective; objectives are found by file, and none is named here."""

import dataclasses
import inspect
import re

import pytest
import torch
from torch import Tensor, nn

from pipeline.core import pgd
from pipeline.core.batch import Roles, needs_whole_batch
from pipeline.core.pgd import compute_input_gradient
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.schema import list_options
from pipeline.trials import objective
from pipeline.trials.objective import make_batch, make_objective, make_roles, run_step

NAMES = list_plugin_names("objectives")
SOURCE = re.compile(r"\b(?:19|20)\d\d\b|\beqs?\. ?\d|\bSec\. ?\d")

every_objective = pytest.mark.parametrize("name", NAMES)
every_supply = pytest.mark.parametrize("supply", ["stored", "live"])


def prepare(made, roles: Roles, supply: str) -> None:
    """Prepare an objective as ``fit`` does."""
    if hasattr(made, "prepare"):
        made.prepare(roles, make_batch(made.needs(), supply))


@every_objective
def test_its_form(name):
    module = load_plugin("objectives", name)
    kind = module.Objective
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen or issubclass(kind, nn.Module)
    text = f"{inspect.getdoc(module)} {inspect.getdoc(kind)}"
    assert SOURCE.search(text), "cite the paper with its year, or an equation or section"
    assert isinstance(needs_whole_batch(kind), bool)
    assert isinstance(module.REVISION, int)


@every_objective
def test_its_options_have_defaults_of_their_own_type(name):
    # A default 1 and a given 1.0 would be two keys for one number.
    for key, option in list_options(load_plugin("objectives", name).Objective).items():
        assert option.default is not dataclasses.MISSING, f"{key} has no default"
        if option.kind is float:
            assert isinstance(option.default, float), f"{key}: write {option.default} as a float"


@every_objective
def test_its_needs_are_known_words(name):
    objective.check_needs(name)


@every_objective
@every_supply
def test_terms_are_finite_one_a_sample_and_reach_the_student_alone(name, supply):
    objective.check_terms_reach_the_student_alone(name, supply)


@every_objective
@every_supply
def test_models_and_batch_are_left_as_they_were(name, supply):
    objective.check_models_and_batch_stay(name, supply)


@every_objective
@every_supply
def test_the_batchs_generator_is_the_only_chance(name, supply):
    objective.check_chance(name, supply)


@every_objective
@every_supply
def test_samples_stand_alone_unless_it_needs_the_whole_batch(name, supply):
    objective.check_samples_stand_alone(name, supply)


@every_objective
def test_its_attack_is_rounded_as_the_batch_says(name, monkeypatch):
    kind, found = load_plugin("objectives", name).Objective, []

    def spied(loss, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        found.append(dtype)
        return compute_input_gradient(loss, z, dtype)

    monkeypatch.setattr(pgd, "compute_input_gradient", spied)
    options = {"attack": "rslad"} if "attack" in list_options(kind) else {}
    made = make_objective(name, options)
    roles, batch = make_roles(made.needs(), "live"), make_batch(made.needs(), "live")
    prepare(made, roles, "live")
    run_step(made, roles, dataclasses.replace(batch, attack_dtype=torch.bfloat16))
    assert bool(found) == ("steps" in list_options(kind))
    assert set(found) <= {torch.bfloat16}


@every_objective
def test_its_temperature_is_the_one_that_is_set(name):
    """Released peers overwrite the student's loss, so that their t = 20 never ran."""
    kind, found = load_plugin("objectives", name).Objective, []
    if "temperature" not in list_options(kind):
        return
    needs = kind().needs()
    for t in (2.0, 5.0):
        made, roles = make_objective(name, {"temperature": t}), make_roles(needs, "stored")
        prepare(made, roles, "stored")
        found.append(run_step(made, roles, make_batch(needs, "stored")))
    assert any(
        not torch.equal(one[term], two[term])
        for one, two in zip(*found, strict=True)
        for term in one
    )


@every_objective
def test_combine_gives_a_gradient_for_each_parameter(name):
    objective.check_combine(name)


@every_objective
def test_what_it_remembers_and_learns_comes_back_from_its_state(name):
    objective.check_state_round_trip(name)
