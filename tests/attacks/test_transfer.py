"""Attacks of the papers' smaller columns: CW-L2, Square, JSMA, TRADES' start, and transfer."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks import clean, cw_l2, fgsm, jsma, jsma_true, pgd, square
from pipeline.core.attack_protocol import AttackPoint, predict_classes
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report.attack_labels import format_attack, format_plain_attack
from pipeline.report.attack_points import rank_by_strength
from pipeline.trials.attack import check_repeats_and_leaves_no_trace
from tests.attacks.test_every_attack import EPS, Watched, samples, small_net
from tests.helpers.graph import tiny
from tests.helpers.points import pgd as pgd_point

CLASSES, SIZE = 4, 8


def bench() -> tuple[nn.Module, Tensor, Tensor]:
    net = small_net(CLASSES, SIZE)
    x, _ = samples(net, size=SIZE)
    return net, x, predict_classes(net, x)


def test_cw_l2_breaks_all_with_a_large_constant_and_none_without_a_step():
    net, x, y = bench()
    strong = cw_l2.Attack(constant=1000.0, steps=200, lr=0.05, confidence=0.0)(net, x, y, 0)
    still = cw_l2.Attack(steps=1)(net, x, y, 0)  # its one step evaluates only the start
    assert (strong[AttackPoint("cw_l2")] != y).all()
    assert (still[AttackPoint("cw_l2")] == y).all()


def test_square_stays_in_its_ball_and_asks_no_more_than_its_queries():
    net, x, y = bench()
    asked = []
    for queries in (10, 30):
        watched = Watched(net).eval()
        found = square.Attack(EPS, queries=queries)(watched, x, y, 5)[AttackPoint("square", EPS)]
        seen = torch.cat([z for z in watched.seen if len(z)])
        nearest = (seen[:, None] - x).abs().flatten(2).amax(2).amin(1)
        assert nearest.max() <= EPS + 1e-6
        assert 0 <= seen.min() <= seen.max() <= 1
        asked.append(len(seen))
    assert 0 < asked[1] - asked[0] <= 20 * len(x)
    assert (square.Attack(0.2, queries=100)(net, x, y, 5)[AttackPoint("square", 0.2)] != y).any()
    assert torch.equal(
        found, square.Attack(EPS, queries=30)(net, x, y, 5)[AttackPoint("square", EPS)]
    )


def test_jsma_moves_few_pixels_up_towards_other_classes():
    net, x, y = bench()
    before = np.random.get_state()[1].copy()
    watched = Watched(net).eval()
    found = jsma.Attack(theta=1.0, gamma=0.1)(watched, x, y, 3)[AttackPoint("jsma")]
    final = watched.seen[-1]
    changed = (final - x).flatten(1)
    assert (changed >= -1e-6).all()
    assert ((changed > 1e-6).float().mean(1) <= 0.1 + 2 / changed.shape[1]).all()
    assert torch.equal(found, predict_classes(net, final))
    assert (found != y).any()
    assert np.array_equal(np.random.get_state()[1], before)


def test_jsma_towards_the_true_label_is_no_attack():
    """Images that the model knows stay as they are; the others are moved to the right class."""
    net, x, y = bench()
    watched = Watched(net).eval()
    found = jsma_true.Attack(gamma=0.3)(watched, x, y, 3)[AttackPoint("jsma_true")]
    assert torch.equal(found, y)
    assert torch.equal(watched.seen[-1], x)
    wrong = (y + 1) % CLASSES  # none of these is predicted
    moved = jsma_true.Attack(gamma=0.3)(net, x, wrong, 3)[AttackPoint("jsma_true")]
    assert (moved == wrong).any()
    assert not (predict_classes(net, x) == wrong).any()


@pytest.mark.parametrize("name", ["jsma", "jsma_true"])
def test_jsma_repeats_and_leaves_no_trace(name):
    """ART's data loaders draw their seed from torch's global generator."""
    check_repeats_and_leaves_no_trace(name)


def test_both_forms_of_jsma_say_in_their_heading_where_they_go():
    assert format_attack(AttackPoint("jsma")) == "JSMA (to a random class)"
    assert format_attack(AttackPoint("jsma_true")) == "JSMA (to the true label: no attack)"


def test_pgd_may_start_as_trades_does():
    net, x, y = bench()
    watched = Watched(net).eval()
    attack = pgd.Attack(EPS, steps=1, step=0.003, start="gauss")
    (point,) = attack(watched, x, y, 0)
    assert format_plain_attack(point) == "pgd1-step0.765-gauss"
    noise = watched.seen[0] - x
    inside = (x > 0.01) & (x < 0.99)
    assert noise[inside].std().item() == pytest.approx(0.001, rel=0.1)


class Half(nn.Module):
    """Another model: it sees the images darker."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(0.5 * x)


@pytest.mark.parametrize(
    "attack",
    [
        fgsm.Attack(EPS),
        pgd.Attack(EPS, steps=3),
        jsma.Attack(),
        jsma_true.Attack(),
        square.Attack(EPS, queries=5),
    ],
    ids=lambda a: type(a).__module__.rpartition(".")[2],
)
def test_a_transfer_is_made_on_one_model_and_judged_by_another(attack):
    net, x, y = bench()
    victim = Watched(Half(net)).eval()
    (found,) = attack(net, x, y, 1, victim).values()
    (images,) = victim.seen
    assert torch.equal(found, predict_classes(victim.model, images))
    (own,) = attack(net, x, y, 1).values()
    assert torch.equal(own, predict_classes(net, images))


def test_clean_images_are_judged_by_the_judge():
    net, x, y = bench()
    judge = Half(net).eval()
    assert torch.equal(
        clean.Attack()(net, x, y, 0, judge)[AttackPoint("clean")], predict_classes(judge, x)
    )


def transferred(**suite) -> dict:
    raw = tiny()
    raw["suites"] = {"black": {"attacks": ["fgsm"], "models": "students", **suite}}
    return raw


def test_a_suite_names_the_surrogate():
    plan = make_plan_from_dict(transferred(surrogate="robust"))
    found = [e for e in plan.artefacts.values() if e.kind == "evaluation"]
    assert {e.inputs["surrogate"].name for e in found} == {"robust"}
    own = make_plan_from_dict(transferred())
    assert all("surrogate" not in e.inputs for e in own.artefacts.values())


def test_a_surrogate_of_other_classes_is_refused():
    raw = transferred(surrogate="other")
    raw["datasets"]["hundred"] = {"source": "cifar100", "train": 64, "test": 8}
    raw["teachers"]["other"] = {**raw["teachers"]["natural"], "dataset": "hundred"}
    with pytest.raises(RetortError, match=r"suites\.black\.surrogate: 'other' knows 100 classes"):
        make_plan_from_dict(raw)
    raw["suites"]["black"]["surrogate"] = "robsut"
    with pytest.raises(RetortError, match="did you mean 'robust'"):
        make_plan_from_dict(raw)


def test_transferred_attacks_stand_last_under_their_surrogates_name():
    own = [AttackPoint("clean"), AttackPoint("autoattack", EPS)]
    made = [AttackPoint("fgsm", EPS, surrogate="rn34"), pgd_point(10, EPS, surrogate="rn34")]
    assert sorted([*reversed(made), *reversed(own)], key=rank_by_strength) == [*own, *made]
    assert format_attack(made[1]) == "PGD-10 from rn34"
    assert format_attack(AttackPoint("cw_l2")) == "CW (L2)"
