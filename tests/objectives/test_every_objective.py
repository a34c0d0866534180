"""The contract of every objective; objectives are found by file, and none is named here."""

import copy
import dataclasses
import inspect
import re

import pytest
import torch
from torch import Tensor, nn

from pipeline.core import pgd
from pipeline.core.batch import NEED_DESCRIPTIONS, Batch, Roles, needs_whole_batch
from pipeline.core.pgd import compute_input_gradient
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.models import classifier
from pipeline.models.vqgan import VQGAN, VQGANArchitecture
from pipeline.schema import build_instance, list_options

NAMES = list_plugin_names("objectives")
ROLES = ("natural", "robust", "teacher")
FIELDS = ("x_adv", "y_adv", "t_clean", "t_adv")
SOURCE = re.compile(r"\b(?:19|20)\d\d\b|\beqs?\. ?\d|\bSec\. ?\d")
COUNT, CLASSES = 4, 10
STEPS = {"steps", "entropy_steps"}  # options that only say how often the same is done

every_objective = pytest.mark.parametrize("name", NAMES)
every_supply = pytest.mark.parametrize("supply", ["stored", "live"])


def network(seed: int) -> nn.Module:
    """A tiny classifier whose BatchNorm statistics are not the initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = classifier.build_classifier(
            "resnet8-s2-w8", CLASSES, (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)
        )
        model.train()
        with torch.no_grad():
            model(torch.rand(16, 3, 16, 16))
    return model.eval()


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    found = {role: network(seed) for seed, role in enumerate(("student", *ROLES))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        shape = VQGANArchitecture(32, (1,), 0, (), n_codes=8, unshuffle=4, mid_attention=False)
        return found | {"discretizer": VQGAN(shape).eval().requires_grad_(False)}


def objective_of(name: str, **options: object):
    """An instance with its defaults, but that its attacks take two steps where they take more."""
    kind = load_plugin("objectives", name).Objective
    counts = {key: list_options(kind)[key].default for key in STEPS & list_options(kind).keys()}
    return build_instance(kind, {key: min(n, 2) for key, n in counts.items()} | options)


def roles_for(nets: dict[str, nn.Module], needs: tuple[str, ...], supply: str) -> Roles:
    """A fresh student, and the teachers that are named; live targets need at least one."""
    wanted = [role for role in ROLES if role in needs]
    if supply == "live" and not wanted:
        wanted = ["teacher"]
    quantiser = nets["discretizer"] if "discretizer" in needs else None
    teachers = {role: copy.deepcopy(nets[role]) for role in wanted}
    return Roles(copy.deepcopy(nets["student"]), teachers, quantiser)


def setting(name: str, nets: dict[str, nn.Module], supply: str) -> tuple:
    """An objective with its defaults and fresh models, prepared as ``fit`` prepares them."""
    objective = objective_of(name)
    roles = roles_for(nets, objective.needs(), supply)
    if hasattr(objective, "prepare"):
        objective.prepare(roles, batch_for(objective.needs(), supply))
    return objective, roles


def batch_for(needs: tuple[str, ...], supply: str, x_seed: int = 0, seed: int = 5) -> Batch:
    """A batch with only what is needed: labels, and stored fields or only the bank's images."""
    rng = torch.Generator().manual_seed(x_seed)
    fields = {
        "x_adv": torch.rand(COUNT, 3, 16, 16, generator=rng),
        "y_adv": torch.randint(0, CLASSES, (COUNT,), generator=rng),
        "t_clean": torch.randn(COUNT, CLASSES, generator=rng),
        "t_adv": torch.randn(COUNT, CLASSES, generator=rng),
    }
    kept = ("x_adv", "y_adv") if supply == "live" else FIELDS
    stored = {field: fields[field] for field in kept if field in needs}
    x = torch.rand(COUNT, 3, 16, 16, generator=rng)
    y = torch.randint(0, CLASSES, (COUNT,), generator=rng) if "label" in needs else None
    return Batch(x, y, torch.arange(COUNT), stored, 0.5, 1, torch.Generator().manual_seed(seed))


def run(objective, roles: Roles, batch: Batch) -> list[dict[str, Tensor]]:
    """All terms, each dictionary backpropagated as it comes, as the loop does."""
    found = []
    for terms in objective(roles, batch):
        sum(values.mean() for values in terms.values()).backward()
        found.append({name: values.detach().clone() for name, values in terms.items()})
    return found


def assert_same(one: list[dict[str, Tensor]], two: list[dict[str, Tensor]]) -> None:
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            assert torch.equal(first[name], second[name]), name


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
    needs = objective_of(name).needs()
    assert isinstance(needs, tuple)
    assert set(needs) <= NEED_DESCRIPTIONS.keys()


@every_objective
@every_supply
def test_terms_are_finite_one_a_sample_and_reach_the_student_alone(name, supply, nets):
    objective, roles = setting(name, nets, supply)
    roles.student.train()
    for teacher in roles.teachers.values():
        teacher.requires_grad_(True)
    found = run(objective, roles, batch_for(objective.needs(), supply))
    assert found
    for values in (v for terms in found for v in terms.values()):
        assert values.shape == (COUNT,)
        assert values.isfinite().all()
    grads = [p.grad for p in roles.student.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)
    assert sum(g.abs().sum() for g in grads) > 0
    for teacher in roles.teachers.values():
        assert all(p.grad is None for p in teacher.parameters())


@every_objective
@every_supply
def test_models_and_batch_are_left_as_they_were(name, supply, nets):
    objective, roles = setting(name, nets, supply)
    student, batch = roles.student.train(), batch_for(objective.needs(), supply)
    student.network.bn.eval()
    student.network.conv.weight.requires_grad_(False)
    models = (student, *roles.teachers.values())
    tensors = {"x": batch.x, "index": batch.index, **batch.stored}
    tensors |= {"y": batch.y} if batch.y is not None else {}

    def state() -> list:
        flags = [([m.training for m in n.modules()], n) for n in models]
        return [(modes, [p.requires_grad for p in n.parameters()]) for modes, n in flags]

    before = state()
    kept = {field: value.clone() for field, value in tensors.items()}
    weights = [copy.deepcopy(teacher.state_dict()) for teacher in roles.teachers.values()]
    run(objective, roles, batch)
    assert state() == before
    assert all(torch.equal(tensors[field], value) for field, value in kept.items())
    for teacher, old in zip(roles.teachers.values(), weights, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in teacher.state_dict().items())


@every_objective
@every_supply
def test_the_batchs_generator_is_the_only_chance(name, supply, nets):
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            objective, roles = setting(name, nets, supply)
            roles.student.train()
            found.append(run(objective, roles, batch_for(objective.needs(), supply)))
            assert torch.equal(torch.get_rng_state(), before)
    assert_same(*found)


@every_objective
@every_supply
def test_samples_stand_alone_unless_it_needs_the_whole_batch(name, supply, nets):
    objective = objective_of(name)
    if needs_whole_batch(objective):
        return
    needs, found = objective.needs(), []
    first = batch_for(needs, supply)
    other = batch_for(needs, supply, x_seed=1)
    for tensor, fresh in [
        (first.x, other.x),
        *((first.stored[f], other.stored[f]) for f in first.stored),
    ]:
        fresh[0] = tensor[0]
    if first.y is not None:
        other.y[0] = first.y[0]
    for batch in (first, other):
        objective, roles = setting(name, nets, supply)
        found.append(run(objective, roles, batch))
    for one, two in zip(*found, strict=True):
        for term in one:
            torch.testing.assert_close(one[term][0], two[term][0], atol=1e-5, rtol=1e-4)


@every_objective
def test_its_attack_is_rounded_as_the_batch_says(name, nets, monkeypatch):
    kind, found = load_plugin("objectives", name).Objective, []

    def spied(loss, z: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        found.append(dtype)
        return compute_input_gradient(loss, z, dtype)

    monkeypatch.setattr(pgd, "compute_input_gradient", spied)
    options = {"attack": "rslad"} if "attack" in list_options(kind) else {}
    objective = objective_of(name, **options)
    roles = roles_for(nets, objective.needs(), "live")
    if hasattr(objective, "prepare"):
        objective.prepare(roles, batch_for(objective.needs(), "live"))
    batch = batch_for(objective.needs(), "live")
    run(objective, roles, dataclasses.replace(batch, attack_dtype=torch.bfloat16))
    assert bool(found) == ("steps" in list_options(kind))
    assert set(found) <= {torch.bfloat16}


@every_objective
def test_its_temperature_is_the_one_that_is_set(name, nets):
    """Released peers overwrite the student's loss, so that their t = 20 never ran."""
    kind, found = load_plugin("objectives", name).Objective, []
    if "temperature" not in list_options(kind):
        return
    needs = kind().needs()
    for t in (2.0, 5.0):
        objective, roles = objective_of(name, temperature=t), roles_for(nets, needs, "stored")
        if hasattr(objective, "prepare"):
            objective.prepare(roles, batch_for(needs, "stored"))
        found.append(run(objective, roles, batch_for(needs, "stored")))
    assert any(
        not torch.equal(one[term], two[term])
        for one, two in zip(*found, strict=True)
        for term in one
    )


@every_objective
def test_combine_gives_a_gradient_for_each_parameter(name, nets):
    objective, roles = setting(name, nets, "live")
    if not hasattr(objective, "combine"):
        return
    params = list(roles.student.train().parameters())
    (terms,) = objective(roles, batch_for(objective.needs(), "live"))
    grads = {
        term: list(
            torch.autograd.grad(values.mean(), params, retain_graph=True, materialize_grads=True)
        )
        for term, values in terms.items()
    }
    merged, facts = objective.combine(grads, params)
    assert [g.shape for g in merged] == [p.shape for p in params]
    assert all(g.isfinite().all() for g in merged)
    assert all(value.ndim == 0 and value.isfinite() for value in facts.values())


@every_objective
def test_what_it_remembers_and_learns_comes_back_from_its_state(name, nets):
    objective, roles = setting(name, nets, "live")
    if not isinstance(objective, nn.Module):
        return
    needs = objective.needs()
    run(objective, roles, batch_for(needs, "live"))
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1)
    saved = copy.deepcopy(objective.state_dict())
    again, twins = setting(name, nets, "live")
    twins.student.load_state_dict(roles.student.state_dict())
    again.load_state_dict(saved)
    other = batch_for(needs, "live", x_seed=1), batch_for(needs, "live", x_seed=1)
    assert_same(run(objective, roles, other[0]), run(again, twins, other[1]))
    assert again.state_dict().keys() == saved.keys()
