"""What counts as an attack on a student, what the sentence on it says, and the worst case."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.outcomes import ModelGroup, Outcome
from pipeline.report.results.threats import choose_attacks, describe_attacks, score_groups
from tests.helpers.points import CLEAN, EPS, corrupted, pgd


def test_attacks_are_those_at_8_255_or_at_the_largest_radius():
    autoattack, far = AttackPoint("autoattack", EPS), pgd(20, 12 / 255)
    chosen = choose_attacks([CLEAN, autoattack, pgd(20, EPS), far, corrupted("fog")])
    assert chosen == [pgd(20, EPS), autoattack]
    assert choose_attacks([CLEAN, pgd(20, 4 / 255), far]) == [far]


def test_the_sentence_on_attacks_says_whether_clean_images_count():
    pair = [pgd(20, EPS), AttackPoint("autoattack", EPS)]
    assert "(the worst of PGD-20 and AutoAttack at 8/255," in describe_attacks(pair, "tiny")
    words = "(the worst of no attack and PGD-20 at 8/255, image by image)"
    assert words in describe_attacks([CLEAN, pair[0]], "tiny")


@pytest.mark.parametrize(("is_known_of_all", "accuracy"), [(True, 0.25), (False, 0.5)])
def test_the_worst_case_under_attack_counts_what_is_wrong_without_one(is_known_of_all, accuracy):
    evaluation = SimpleNamespace(manifest=SimpleNamespace(key="k"))
    rights = {CLEAN: [0, 1, 1, 1], pgd(20, EPS): [1, 1, 0, 0]}
    found = {
        point: SimpleNamespace(
            outcome=Outcome(np.arange(4), np.float64(right)), evaluation=evaluation
        )
        for point, right in rights.items()
    }
    bare = {pgd(20, EPS): found[pgd(20, EPS)]}
    by_place = {
        ("a", None, "tiny"): found,
        ("b", None, "tiny"): found if is_known_of_all else bare,
    }
    groups = [
        ModelGroup(key, "student", (SimpleNamespace(manifest=SimpleNamespace(key=key)),), ({},))
        for key in "ab"
    ]
    ways = (choose_attacks, describe_attacks, "tiny")
    scores = score_groups(groups, by_place, "attack", *ways).scores
    assert {score.outcomes[0].accuracy for score in scores.values()} == {accuracy}
