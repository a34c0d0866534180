"""DARWIN and its label-free form against plain derivations, and the weights of eq. 5."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles
from pipeline.core.pairing import (
    pair_different_labels,
    pair_different_rankings,
    pair_distant_outputs,
)
from pipeline.objectives import darwin, darwin_lf
from pipeline.objectives.darwin import compute_step_weight
from tests.helpers.plain import make_objective

EPS, STEP = 8 / 255, 2 / 255
EXACT = {"atol": 1e-9, "rtol": 0}
CLASSES = 5


def network(seed: int) -> nn.Module:
    """Convolution, BatchNorm with statistics of its own, tanh, linear; double."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(96, CLASSES),
        ).double()
        nn.init.normal_(net[1].bias, std=0.2)
        net.train()(torch.rand(8, 3, 6, 6, dtype=torch.float64))
    with torch.no_grad():
        net[4].weight.mul_(4)
        net[4].bias.zero_()
    return net


@pytest.fixture
def roles() -> Roles:
    return Roles(network(1).train(), {"robust": network(5).eval().requires_grad_(False)})


def batch(labelled: bool = True, count: int = 8) -> Batch:
    """Images and labels; the same noise each time."""
    rng = torch.Generator().manual_seed(3)
    x = torch.rand(count, 3, 6, 6, generator=rng, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (count,), generator=rng) if labelled else None
    return Batch(x, y, torch.arange(count), {}, 0.0, 0, torch.Generator().manual_seed(4))


def prepared(objective, roles: Roles, seed: int = 7):
    """The objective with auxiliary BatchNorms that differ from the main ones."""
    objective.prepare(roles, batch())
    rng = torch.Generator().manual_seed(seed)
    if objective.auxiliary is not None:
        with torch.no_grad():
            for tensor in objective.auxiliary.collect_tensors().values():
                if tensor.is_floating_point():
                    tensor.add_(0.3 * torch.rand(tensor.shape, generator=rng, dtype=tensor.dtype))
    return objective


def plain_forward(net: nn.Module, norm: nn.Module, z: Tensor, training: bool) -> Tensor:
    """The network's logits with the given BatchNorm, statistics untouched."""
    h = F.conv2d(z, net[0].weight)
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    if training:
        mean, var = h.mean((0, 2, 3)), h.var((0, 2, 3), unbiased=False)
    h = (h - mean[:, None, None]) / (var[:, None, None] + norm.eps).sqrt()
    h = torch.tanh(h * norm.weight[:, None, None] + norm.bias[:, None, None])
    return h.flatten(1) @ net[4].weight.T + net[4].bias


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    p = teacher.softmax(1)
    return (p * (p.log() - student.softmax(1).log())).sum(1)


def plain_path(forward, loss, x: Tensor, z: Tensor, steps: int, sign: int) -> list[Tensor]:
    path = []
    for _ in range(steps):
        z = z.detach().clone().requires_grad_()
        loss(forward(z)).sum().backward(inputs=[z])
        z = z.detach() + sign * STEP * z.grad.sign()
        z = torch.maximum(torch.minimum(z, x + EPS), x - EPS).clamp(0, 1)
        path.append(z)
    return path


def plain_weight(o, i: int, p: Tensor, q: Tensor, y: Tensor) -> Tensor:
    if o.weighting == "uniform":
        return torch.ones(len(y), dtype=torch.float64)
    gaps = torch.stack([(p[j, c] - q[j, c]).abs() for j, c in enumerate(y.tolist())]).detach()
    return (1 - o.gamma) * i / o.inner_attack.steps + o.gamma * gaps / gaps.max()


def plain_triplet(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
    return torch.relu(((p - q) ** 2).sum(1) - ((p - r) ** 2).sum(1) + 0.1)


def plain(o, roles: Roles, b: Batch) -> dict[str, Tensor]:
    """Sums over the steps of each term, from one graph."""
    net, teacher, n = roles.student, roles.teacher, o.inner_attack.steps
    aux = o.auxiliary.layers["1"] if o.dbkd else net[1]
    target = teacher(b.x)
    p, label_free = target.softmax(1), b.y is None
    y = target.argmax(1) if label_free else b.y

    def against(rows: Tensor):
        if not label_free:
            return lambda s: -s.softmax(1)[torch.arange(len(y)), y[rows]].log()
        if o.inner_kl == "reverse":
            return lambda s: divergence(s, target[rows])
        return lambda s: divergence(target[rows], s)

    def main(z, training=True):
        return plain_forward(net, net[1], z, training)

    def other(z, training=True):
        return plain_forward(net, aux, z, training)

    rows, mode = torch.arange(len(y)), o.inner_attack.attack_bn == "train"
    noise = torch.randn(b.x.shape, generator=b.rng, dtype=b.x.dtype)
    start = (b.x + 0.001 * noise).clamp(0, 1)
    up = plain_path(lambda z: main(z, mode), against(rows), b.x, start, n, +1)
    terms = {"kd": divergence(target, main(b.x))}
    terms["kd_adv"] = 4 * divergence(teacher(up[-1]), main(up[-1]))
    w = [plain_weight(o, i, p, main(z).softmax(1), y) for i, z in enumerate(up, 1)]
    if o.iakd and n > 1:
        found = [w[i] * divergence(teacher(up[i]), main(up[i])) for i in range(n - 1)]
        terms["iakd"] = o.lambda_iakd * sum(found)
    if o.dbkd:
        if label_free and o.pairing == "l1":
            pair, apart = pair_distant_outputs(p, b.rng)
        elif label_free and o.top_k > 1:
            pair, apart = pair_different_rankings(p, o.top_k, b.rng)
        else:
            pair, apart = pair_different_labels(y, b.rng)
        goal = against(pair if o.target_source == "own" else rows)
        x = b.x[pair]
        noise = torch.randn(x.shape, generator=b.rng, dtype=x.dtype)
        near = (x + 0.001 * noise).clamp(0, 1)  # eq. 6 and Algorithm 1
        down = plain_path(lambda z: other(z, mode), goal, x, near, n, -1)
        total = 0
        for i in range(n):
            q, r = main(up[i]).softmax(1), other(down[i]).softmax(1)
            w_pair = plain_weight(o, i + 1, p[pair], r, y[pair])
            total = total + w[i] * plain_triplet(p, q, r) + w_pair * plain_triplet(p[pair], r, q)
        terms["dbkd"] = o.lambda_dbkd * apart * total
    return terms


def run(objective, roles: Roles, b: Batch) -> dict[str, Tensor]:
    """Each dictionary backpropagated as it comes; the terms summed over the steps."""
    found: dict[str, Tensor] = {}
    for terms in objective(roles, b):
        sum(values.mean() for values in terms.values()).backward()
        for name, values in terms.items():
            found[name] = found.get(name, 0) + values.detach()
    return found


SETTINGS = {
    "default": {},
    "ten steps": {"steps": 10},
    "one step": {"steps": 1},
    "progress alone": {"gamma": 0.0},
    "gap alone": {"gamma": 1.0, "lambda_iakd": 0.7, "lambda_dbkd": 1.3},
    "uniform": {"weighting": "uniform"},
    "ARKD": {"iakd": False, "dbkd": False},
    "ARKD + IAKD": {"dbkd": False},
    "ARKD + DBKD": {"iakd": False},
    "own target": {"target_source": "own"},
    "shared forwards": {"attack_bn": "train"},
    "shared forwards, ten steps": {"attack_bn": "train", "steps": 10},
    "attack in train mode, ARKD": {"attack_bn": "train", "iakd": False, "dbkd": False},
}
CASES = [(darwin, name, options) for name, options in SETTINGS.items()]
CASES += [(darwin_lf, f"label-free, {name}", options) for name, options in SETTINGS.items()]
CASES += [(darwin_lf, "label-free, reverse", {"inner_kl": "reverse"})]
CASES += [(darwin_lf, "label-free, two classes", {"top_k": 2})]
CASES += [(darwin_lf, "label-free, distant", {"pairing": "l1"})]


@pytest.mark.parametrize(("module", "name", "options"), CASES, ids=[c[1] for c in CASES])
def test_terms_and_gradients_match_a_plain_derivation(module, name, options, roles):
    objective = prepared(make_objective(module, **({"steps": 3} | options)), roles)
    twin = Roles(copy.deepcopy(roles.student), roles.teachers)
    other = copy.deepcopy(objective)
    expected = plain(other, twin, batch(module is darwin))
    sum(values.mean() for values in expected.values()).backward()
    found = run(objective, roles, batch(module is darwin))
    assert found.keys() == expected.keys()
    for term, values in found.items():
        torch.testing.assert_close(values, expected[term], **EXACT)
    pairs = zip(
        [*roles.student.parameters(), *objective.parameters()],
        [*twin.student.parameters(), *other.parameters()],
        strict=True,
    )
    for one, two in pairs:
        assert two.grad.abs().max() > 1e-5
        torch.testing.assert_close(one.grad, two.grad, **EXACT)


@given(
    st.floats(0, 1),
    st.integers(1, 12),
    st.integers(0, 2**31),
    st.sampled_from(["mixed", "uniform"]),
)
def test_weights_are_shares_and_follow_the_confidence_gap(gamma, n, seed, weighting):
    objective = make_objective(darwin, steps=n, gamma=gamma, weighting=weighting)
    rng = torch.Generator().manual_seed(seed)
    p, q = torch.rand(2, 6, CLASSES, generator=rng, dtype=torch.float64).mul(9).softmax(2)
    y = torch.randint(0, CLASSES, (6,), generator=rng)
    for i in range(1, n + 1):
        w = compute_step_weight(objective, i, p, q.requires_grad_(), y)
        assert not w.requires_grad
        assert w.min() >= 0
        assert w.max() <= 1 + 4 * torch.finfo(w.dtype).eps
        if weighting == "mixed":
            torch.testing.assert_close(w.max().item(), (1 - gamma) * i / n + gamma)


def test_weights_at_both_ends_of_gamma():
    p, q, y = torch.eye(2), torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 1])
    halfway = compute_step_weight(make_objective(darwin, steps=4, gamma=0.0), 2, p, q, y)
    torch.testing.assert_close(halfway, torch.tensor([0.5, 0.5]))
    gaps = compute_step_weight(make_objective(darwin, steps=4, gamma=1.0), 2, p, q, y)
    torch.testing.assert_close(gaps, torch.tensor([0.1 / 0.6, 1.0]))
    both = compute_step_weight(make_objective(darwin, steps=4, gamma=0.5), 2, p, q, y)
    torch.testing.assert_close(both, torch.tensor([0.25 + 0.05 / 0.6, 0.75]))
    nothing = compute_step_weight(make_objective(darwin, steps=4, gamma=1.0), 4, p, p, y)
    torch.testing.assert_close(nothing, torch.zeros(2))


def test_a_pair_of_one_class_adds_no_triplet(roles):
    b = batch(count=3)
    b.y.copy_(torch.tensor([1, 1, 2]))
    objective = prepared(make_objective(darwin, steps=2, margin=9.0), roles)
    found = run(objective, roles, b)["dbkd"]
    assert sorted((found > 0).tolist()) == [False, True, True]


def test_the_targeted_branch_wants_its_batchnorms_prepared(roles):
    with pytest.raises(ValueError, match="prepare"):
        next(make_objective(darwin, steps=2)(roles, batch()))


def test_soft_labels_guide_the_attacks_and_their_likeliest_class_the_rest(roles):
    found = []
    for soften in (lambda y: y, lambda y: F.one_hot(y, CLASSES).double()):
        own = Roles(copy.deepcopy(roles.student), roles.teachers)
        objective = prepared(make_objective(darwin, steps=2), own)
        found.append(run(objective, own, replace(b := batch(), y=soften(b.y))))
    for term, values in found[0].items():
        torch.testing.assert_close(found[1][term], values, **EXACT)
