"""Trials of an objective: its terms, its gradients, and what it must leave alone.

It is tried with stored teacher outputs (``supply="stored"``) and with a live teacher ("live").
"""

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.contracts.values import describe_bad_needs
from pipeline.core.batch import (
    NEED_DESCRIPTIONS,
    Batch,
    Roles,
    compute_terms,
    find_trained_roles,
    needs_whole_batch,
)
from pipeline.discovery import load_plugin
from pipeline.errors import RetortError
from pipeline.schema import build_instance, list_options
from pipeline.trials.requirements import (
    CLASSES,
    SIDE,
    are_equal,
    make_classifier,
    make_discretizer,
    require,
)

ROLES = ("natural", "robust", "teacher")
FIELDS = ("x_adv", "y_adv", "t_clean", "t_adv")
COUNT = 4
STEP_COUNTS = ("steps", "entropy_steps")  # options that only say how often the same is done
MOST_STEPS = 2  # of an attack in a trial
Supply = Literal["stored", "live"]
Found = list[dict[str, Tensor]]


def make_roles(needs: tuple[str, ...], supply: Supply) -> Roles:
    """A fresh student, and the teachers that are named; live targets need at least one."""
    wanted = [role for role in ROLES if role in needs]
    if supply == "live" and not wanted:
        wanted = ["teacher"]
    quantiser = make_discretizer() if "discretizer" in needs else None
    teachers = {role: make_classifier(1 + ROLES.index(role)) for role in wanted}
    return Roles(make_classifier(0), teachers, quantiser)


def make_batch(needs: tuple[str, ...], supply: Supply, x_seed: int = 0, seed: int = 5) -> Batch:
    """A batch with only what is needed: labels, and stored fields or only the bank's images."""
    rng = torch.Generator().manual_seed(x_seed)
    fields = {
        "x_adv": torch.rand(COUNT, 3, SIDE, SIDE, generator=rng),
        "y_adv": torch.randint(0, CLASSES, (COUNT,), generator=rng),
        "t_clean": torch.randn(COUNT, CLASSES, generator=rng),
        "t_adv": torch.randn(COUNT, CLASSES, generator=rng),
    }
    kept = ("x_adv", "y_adv") if supply == "live" else FIELDS
    stored = {field: fields[field] for field in kept if field in needs}
    x = torch.rand(COUNT, 3, SIDE, SIDE, generator=rng)
    y = torch.randint(0, CLASSES, (COUNT,), generator=rng) if "label" in needs else None
    return Batch(x, y, torch.arange(COUNT), stored, 0.5, 1, torch.Generator().manual_seed(seed))


def make_objective(name: str, options: Mapping[str, Any]) -> Any:
    """An objective with its defaults and some options; its attacks take two steps at most."""
    kind = load_plugin("objectives", name).Objective
    known = list_options(kind)
    counts = {key: min(known[key].default, MOST_STEPS) for key in STEP_COUNTS if key in known}
    return build_instance(kind, counts | dict(options))


def make_setting(name: str, supply: Supply) -> tuple[Any, Roles]:
    """An objective with its defaults and fresh models, prepared as ``fit`` prepares them."""
    objective = make_objective(name, {})
    roles = make_roles(objective.needs(), supply)
    if hasattr(objective, "prepare"):
        objective.prepare(roles, make_batch(objective.needs(), supply))
    for about in find_trained_roles(objective):
        roles.teachers[about.role].train()
    return objective, roles


def run_step(objective: Any, roles: Roles, batch: Batch) -> Found:
    """All terms, each dictionary backpropagated as it comes, as the loop does."""
    found = []
    for terms in compute_terms(objective, roles, batch):
        sum(values.mean() for values in terms.values()).backward()
        found.append({name: values.detach().clone() for name, values in terms.items()})
    return found


def check_needs(name: str) -> None:
    """Its needs are known words, and name the teachers that it trains."""
    objective = load_plugin("objectives", name).Objective()
    needs = objective.needs()
    fault = describe_bad_needs(needs, tuple(NEED_DESCRIPTIONS))
    require(not fault, fault)
    require(isinstance(needs, tuple), "needs() gives a list; a tuple is expected")
    other = [about.role for about in find_trained_roles(objective) if about.role not in needs]
    require(not other, f"trains() names {', '.join(map(repr, other))}, which needs() does not name")


def check_terms_reach_the_student_alone(name: str, supply: Supply) -> None:
    """Terms are finite and one a sample; their gradient reaches what trains and nothing else."""
    objective, roles = make_setting(name, supply)
    roles.student.train()
    for teacher in roles.teachers.values():
        teacher.requires_grad_(True)
    found = run_step(objective, roles, make_batch(objective.needs(), supply))
    for terms in found:
        for term, values in terms.items():
            require(
                bool(values.isfinite().all()), f"term {term!r} is not finite: {values.tolist()}"
            )
    grads = [(k, p.grad) for k, p in roles.student.named_parameters()]
    for key, grad in grads:
        require(grad is not None, f"no gradient reaches the student's {key}")
        require(bool(grad.isfinite().all()), f"the gradient of the student's {key} is not finite")
    require(sum(float(g.abs().sum()) for _, g in grads) > 0, "the student's gradient is all zero")
    trained = {about.role for about in find_trained_roles(objective)}
    for role, teacher in roles.teachers.items():
        reached = [k for k, p in teacher.named_parameters() if p.grad is not None]
        if role in trained:
            require(
                bool(reached), f"no gradient reaches the teacher '{role}', which trains() names"
            )
            continue
        hint = "call the teacher below torch.no_grad()"
        require(not reached, f"a gradient reaches the teacher '{role}'; {hint}")


def read_state(roles: Roles) -> list:
    """Every module's mode, and whether every parameter wants a gradient."""
    models = (roles.student, *roles.teachers.values())
    return [
        ([m.training for m in net.modules()], [p.requires_grad for p in net.parameters()])
        for net in models
    ]


def check_models_and_batch_stay(name: str, supply: Supply) -> None:
    """Modes, frozen parts, the teachers' weights and the batch are left as they were."""
    objective, roles = make_setting(name, supply)
    student, batch = roles.student.train(), make_batch(objective.needs(), supply)
    student.network.bn.eval()
    student.network.conv.weight.requires_grad_(False)
    tensors = {"x": batch.x, "index": batch.index, **batch.stored}
    tensors |= {"y": batch.y} if batch.y is not None else {}
    before = read_state(roles)
    kept = {field: value.clone() for field, value in tensors.items()}
    weights = {role: copy.deepcopy(net.state_dict()) for role, net in roles.teachers.items()}
    for about in find_trained_roles(objective):  # its running statistics may move
        kept_names = dict(roles.teachers[about.role].named_parameters())
        weights[about.role] = {k: v for k, v in weights[about.role].items() if k in kept_names}
    run_step(objective, roles, batch)
    require(read_state(roles) == before, "a model's train or eval mode, or what is frozen, changed")
    for field, value in kept.items():
        require(torch.equal(tensors[field], value), f"the batch's {field} was changed in place")
    for role, old in weights.items():
        state = roles.teachers[role].state_dict()
        changed = [key for key, value in old.items() if not torch.equal(value, state[key])]
        require(not changed, f"the teacher '{role}' was changed: {', '.join(changed[:2])}")


def check_chance(name: str, supply: Supply) -> None:
    """The batch's generator is the only chance."""
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            objective, roles = make_setting(name, supply)
            roles.student.train()
            found.append(run_step(objective, roles, make_batch(objective.needs(), supply)))
            drew = not torch.equal(torch.get_rng_state(), before)
            require(not drew, "it draws from torch's global generator; give generator=batch.rng")
    require(are_equal(*found), "two runs of the same step give other terms")


def check_samples_stand_alone(name: str, supply: Supply) -> None:
    """The terms of a sample depend on no other sample, unless it needs the whole batch."""
    objective = load_plugin("objectives", name).Objective()
    if needs_whole_batch(objective):
        return
    needs, found = objective.needs(), []
    first, other = make_batch(needs, supply), make_batch(needs, supply, x_seed=1)
    pairs = [(first.x, other.x), *((first.stored[f], other.stored[f]) for f in first.stored)]
    for tensor, fresh in pairs:
        fresh[0] = tensor[0]
    if first.y is not None and other.y is not None:
        other.y[0] = first.y[0]
    for batch in (first, other):
        objective, roles = make_setting(name, supply)
        found.append(run_step(objective, roles, batch))
    for one, two in zip(*found, strict=True):
        for term in one:
            same = torch.allclose(one[term][0], two[term][0], atol=1e-5, rtol=1e-4)
            hint = "write needs_whole_batch = True in the class if that is meant"
            require(same, f"a sample's term {term!r} depends on other samples; {hint}")


def check_combine(name: str) -> None:
    """``combine``, where there is one, gives a gradient for each parameter."""
    objective, roles = make_setting(name, "live")
    if not hasattr(objective, "combine"):
        return
    params = list(roles.student.train().parameters())
    (terms,) = objective(roles, make_batch(objective.needs(), "live"))
    grads = {
        term: list(
            torch.autograd.grad(values.mean(), params, retain_graph=True, materialize_grads=True)
        )
        for term, values in terms.items()
    }
    merged, facts = objective.combine(grads, params)
    fits = [g.shape for g in merged] == [p.shape for p in params]
    require(fits, "combine does not give one gradient for each parameter")
    require(
        all(bool(g.isfinite().all()) for g in merged), "combine gives a gradient that is not finite"
    )
    for fact, value in facts.items():
        whole = value.ndim == 0 and bool(value.isfinite())
        require(whole, f"combine's fact {fact!r} is no finite number")


def check_state_round_trip(name: str) -> None:
    """What it remembers and learns comes back from its state."""
    objective, roles = make_setting(name, "live")
    if not isinstance(objective, nn.Module):
        return
    needs = objective.needs()
    run_step(objective, roles, make_batch(needs, "live"))
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1)
    saved = copy.deepcopy(objective.state_dict())
    again, twins = make_setting(name, "live")
    twins.student.load_state_dict(roles.student.state_dict())
    again.load_state_dict(saved)
    other = make_batch(needs, "live", x_seed=1), make_batch(needs, "live", x_seed=1)
    same = are_equal(run_step(objective, roles, other[0]), run_step(again, twins, other[1]))
    require(same, "after its state was saved and loaded it gives other terms")
    require(again.state_dict().keys() == saved.keys(), "its state has other keys after a step")


def try_objective(name: str) -> None:
    """All trials.

    Raises:
        RetortError: what was seen in the first that fails.
    """
    check_needs(name)
    supplies: tuple[Supply, ...] = ("live", "stored")
    for supply in supplies:
        try:
            check_terms_reach_the_student_alone(name, supply)
            check_models_and_batch_stay(name, supply)
            check_chance(name, supply)
            check_samples_stand_alone(name, supply)
        except ValueError as error:
            if supply == "live":
                raise
            raise RetortError(
                f"with a bank's stored outputs and no teacher: {error}; read the outputs by "
                "get_clean_teacher_logits(roles, batch), or need 'teacher' in place of 't_clean'"
            ) from error
    check_combine(name)
    check_state_round_trip(name)
