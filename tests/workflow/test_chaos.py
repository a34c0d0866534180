"""Killed at random moments, the tiny graph ends as if undisturbed: `make chaos` in short."""

import signal

import yaml

from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.chaos import harass, leftovers, sums

KILLS = 16


def test_the_graph_ends_as_if_nobody_had_killed_it(made, tmp_path):
    plan, killer = harass(tmp_path / "chaos", KILLS, mean=30)
    assert len(killer.killed) == KILLS
    assert {signal.SIGKILL, signal.SIGTERM} == set(killer.killed)
    undisturbed = make_plan_from_dict(
        yaml.safe_load(made.config.read_text()) | {"store": f"{made.path}/store"}
    )
    expected = sums(undisturbed)
    assert sums(plan) == {ref: expected[ref] for ref in plan.artefacts}
    assert leftovers(plan) == []
