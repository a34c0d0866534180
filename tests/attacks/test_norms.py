"""A radius of another norm than L-infinity: its words, its axes, and where it does not count."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.core.attack_protocol import AttackPoint, find_norm, make_point, name_norm
from pipeline.errors import RetortError
from pipeline.report import figures
from pipeline.report.attack_labels import format_attack, format_attack_at
from pipeline.report.outcomes import ModelGroup, Outcome
from pipeline.report.page.accuracy_charts import draw_curves
from pipeline.report.paper_figures.training_radius import find_strongest_attack, label_series
from pipeline.report.papers.differences import describe_inner_attack
from pipeline.report.results.bank_costs import choose_attack
from pipeline.report.results.pivot import name_condition
from pipeline.report.results.threats import choose_attacks, describe_attacks
from pipeline.report.sanity_checks import find_doubts
from pipeline.report.shift_table import describe_point
from pipeline.report.statistics import worst_case
from pipeline.report.tables import make_columns
from pipeline.store.artefact import Artefact, Manifest
from pipeline.trials.attack import check_point
from tests.helpers.points import CLEAN, EPS, pgd
from tests.helpers.specs import completed

L2 = AttackPoint("from_file", 0.5, variant="mine, L2")
TINY = replace(L2, eps=EPS)  # a radius in L2 that would be a usual one in L-infinity


@dataclass(frozen=True)
class Bounded:
    """An attack of the user's own."""

    eps: float = 0.5
    norm: str = "linf"


def outcome(*right: int) -> Outcome:
    return Outcome(np.arange(len(right)), np.float64(right))


def group(*outcomes: dict) -> ModelGroup:
    manifest = SimpleNamespace(kind="student", spec={"seed": 0}, key="k")
    member = SimpleNamespace(manifest=manifest)
    return ModelGroup("a", "student", (member,) * len(outcomes), outcomes)


NORMS = {
    "linf": "", "Linf": "", "l2": "L2", "L2": "L2", "2": "L2", "l1": "L1", "lpips": "norm lpips",
    "l_inf": "", np.inf: "", None: "", 2: "L2", "2.0": "L2", "l_1": "L1", "l10": "L10",
}  # fmt: skip


@pytest.mark.parametrize("norm", NORMS)
def test_a_point_says_the_norm_of_an_attack_of_one_s_own(norm):
    attack = Bounded(norm=norm)
    point = make_point("own", attack)
    assert name_norm(attack) == find_norm(point) == NORMS[norm]
    check_point(attack, "own", point)
    if NORMS[norm]:
        assert format_attack_at(point) == f"own ({NORMS[norm]}) at 0.5"
        with pytest.raises(RetortError, match="does not end with its norm"):
            check_point(attack, "own", replace(point, variant=None))


@pytest.mark.parametrize("variant", [None, "", "ce", "mine", "L2 mine", "mine L2", "mine,L2"])
def test_other_words_are_no_norm(variant):
    assert find_norm(AttackPoint("apgd", EPS, variant=variant)) == ""


def test_words_say_the_norm_and_a_plain_radius():
    assert format_attack(L2) == "from file (mine, L2)"
    assert format_attack_at(L2) == "from file (mine, L2) at 0.5"
    assert describe_point(L2) == "from_file (mine, L2) 0.5 on "
    record = {**vars(L2), "condition": format_attack_at(L2), "shifted": False, "epoch": None}
    assert name_condition(record, ["eps"]) == "from file (mine, L2)"


def test_a_column_s_remark_has_the_radius_even_where_it_is_8_255():
    headings = [
        column.full_heading
        for point in (L2, TINY)
        for column in make_columns([group({point: outcome(1, 0)})])
    ]
    assert headings == ["from file (mine, L2) (eps 0.5)", "from file (mine, L2) (eps 0.03137)"]


def test_the_worst_case_counts_no_radius_in_l2():
    outcomes = {CLEAN: outcome(1, 1), pgd(20, EPS): outcome(1, 0), TINY: outcome(0, 0)}
    usual = worst_case.Radius()
    assert worst_case.list_worst_case_points(outcomes, usual) == [CLEAN, pgd(20, EPS)]
    assert worst_case.find_worst_case(outcomes, usual).correctness.tolist() == [1, 0]
    assert worst_case.find_worst_case({CLEAN: outcome(1), TINY: outcome(0)}, usual) is None
    outcomes[AttackPoint("autoattack", EPS)] = outcome(1, 1)
    assert worst_case.measure_autoattack_gap(outcomes, usual).attacks == 1


def test_the_worst_case_of_a_study_in_l2_is_at_its_own_radius():
    outcomes = {CLEAN: outcome(1, 1, 1), L2: outcome(1, 0, 1), TINY: outcome(0, 0, 0)}
    radius = worst_case.choose_radius(worst_case.list_radii(outcomes))
    assert (radius, str(radius)) == (worst_case.Radius(0.5, "L2"), "0.5 in L2")
    assert worst_case.find_worst_case(outcomes, radius).correctness.tolist() == [1, 0, 1]


def test_the_threat_of_attacks_is_of_one_norm():
    assert choose_attacks([CLEAN, TINY, L2, pgd(20, EPS)]) == [pgd(20, EPS)]
    assert choose_attacks([CLEAN, TINY, L2, pgd(20, 0.01)]) == [pgd(20, 0.01)]
    assert choose_attacks([CLEAN, TINY, L2]) == [L2]
    words = "Under attack (from file (mine, L2) at 0.5, image by image)"
    assert describe_attacks([L2], "tiny") == words


def test_no_figure_takes_l2_for_its_strongest_attack():
    points = dict.fromkeys([CLEAN, pgd(20, EPS), TINY, L2], outcome(1))
    assert find_strongest_attack([group(points)]) == choose_attack([group(points)]) == pgd(20, EPS)
    alone = dict.fromkeys([CLEAN, TINY], outcome(1))
    assert find_strongest_attack([group(alone)]) is None and choose_attack([group(alone)]) == TINY


def test_a_transfer_in_l2_is_not_compared_with_pgd():
    many, few = outcome(*[1] * 20), outcome(*[1] * 5, *[0] * 15)
    there = AttackPoint("from_file", EPS, variant="mine", surrogate="rn34")
    assert find_doubts({pgd(20, EPS): many, there: few})
    assert not find_doubts({pgd(20, EPS): many, replace(there, variant="mine, L2"): few})


def test_axes_say_l2_and_are_not_in_grey_levels(tmp_path, monkeypatch):
    points = {CLEAN: outcome(1, 1)} | dict.fromkeys([L2, replace(L2, eps=1.0)], outcome(1, 0))
    points |= dict.fromkeys([pgd(20, EPS), pgd(20, EPS / 2)], outcome(1, 0))
    groups = [group(points)]
    study = SimpleNamespace(groups=groups, evaluated_groups=groups)
    drawn = json.loads(draw_curves(study).figure)
    titles = [drawn["layout"][axis]["title"]["text"] for axis in ("xaxis", "xaxis2")]
    assert titles == ["eps (1/255)", "eps (L2)"]
    assert [line["x"] for line in drawn["data"]] == [[0, 4, 8], [0, 0.5, 1.0]]
    assert ["/255" in line["hovertemplate"] for line in drawn["data"]] == [True, False]
    seen = {}
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, *a, **k: seen.update(made=self))
    figures.draw_accuracy_curves(tmp_path / "a.png", study)
    panels = {axes.get_xlabel(): axes for axes in seen["made"].axes}
    assert panels["eps (1/255)"].lines[0].get_xdata().tolist() == pytest.approx([0, 4, 8])
    assert panels["eps (L2)"].lines[0].get_xdata().tolist() == [0, 0.5, 1.0]
    assert panels["eps (L2)"].get_title() == "from file (mine, L2)"


def test_a_radius_of_training_in_l2_is_told_so():
    def about(objective: str) -> ModelGroup:
        student = completed("student", {"objective": {objective: {"eps": 0.2}}, "model": "r"})
        manifest = Manifest("student", "s-0", "k", student, {}, {}, {}, {})
        return ModelGroup("s", "student", (Artefact(Path("s"), manifest),), ({},))

    labels = [label_series(SimpleNamespace(), {0.2: about(name)}) for name in ("dat", "adaad")]
    assert labels == ["dat (radius in L2)", "adaad"]
    settings = [
        SimpleNamespace(objective=name, options={"eps": 0.2, "step": 0.1, "steps": 1})
        for name in ("dat", "pgd_at")
    ]
    dat, pgd_at = map(describe_inner_attack, settings)
    assert dat == "attack in training: eps 0.2 (L2) in place of 0.1 (L2)"
    assert "eps 51/255 in place of 8/255" in pgd_at
