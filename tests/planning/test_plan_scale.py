"""A large plan costs what it holds: counted, not timed."""

import ast
import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.plan_scale import GROUP, METHODS, MODELS, SHARDS, experiment
from pipeline import schema
from pipeline.config.reader import parse_config
from pipeline.planning.compatibility import fits
from pipeline.planning.entries import evaluation
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.store import code_revisions
from tests.helpers.graph import ROOT


def planned(**sizes: int) -> Plan:
    return make_plan(parse_config(experiment(Path("store"), **sizes)))


def counted(monkeypatch, **sizes: int) -> tuple[Plan, Counter]:
    """A plan, and how often its making parsed a file, made a schema, dumped JSON and hashed."""
    calls: Counter = Counter()

    def count(module: object, name: str) -> None:
        real = getattr(module, name)

        def wrapped(*arguments, **options):
            calls[name] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, wrapped)

    for module, name in ((ast, "parse"), (schema, "create_model"), (json, "dumps")):
        count(module, name)
    count(hashlib, "sha256")
    for cached in (
        code_revisions.parse_module,
        code_revisions.literal_of,
    ):
        cached.cache_clear()
    schema.build_section_class.cache_clear()
    plan = planned(**sizes)
    monkeypatch.undo()
    return plan, calls


def test_the_plan_holds_what_was_asked_for():
    plan = planned(sets=1, seeds=2, suites=3)
    kinds = Counter(entry.kind for entry in plan.artefacts.values())
    students = len(METHODS) * len(MODELS) * 2
    assert kinds["student"] == students
    assert kinds["evaluation"] == 3 * students
    (bank,) = (ref for ref in plan.artefacts if ref.startswith("bank/"))
    assert len(plan.list_shard_groups(bank)) == SHARDS // GROUP


def test_a_plan_hashes_each_artefact_once_and_reads_code_once(monkeypatch):
    small, few = counted(monkeypatch, sets=2, seeds=1, suites=1)
    large, many = counted(monkeypatch, sets=2, seeds=2, suites=6)
    assert len(large.artefacts) > 5 * len(small.artefacts)
    for plan, calls in ((small, few), (large, many)):
        assert calls["dumps"] == calls["sha256"] == len(plan.artefacts)
    for name in ("parse", "create_model"):  # a file each of our modules, a schema each plug-in
        assert 0 < many[name] == few[name] < 200


def test_what_suites_ask_is_held_once():
    plan = planned(sets=1, seeds=1, suites=2)
    specs = {id(entry.spec) for entry in plan.artefacts.values() if entry.kind == "evaluation"}
    assert len(specs) == 2


def test_a_plan_opens_each_source_once(monkeypatch):
    opened = []
    fits.open_once.cache_clear()
    real = fits.open_dataset_plugin
    monkeypatch.setattr(fits, "open_dataset_plugin", lambda s: opened.append(s) or real(s))
    planned(sets=2, seeds=2, suites=4)
    assert len(opened) == 2


def test_a_suite_makes_its_attacks_once_for_all_models(monkeypatch):
    made = []
    real = evaluation.make_plugin
    monkeypatch.setattr(evaluation, "make_plugin", lambda *a: made.append(a[2]) or real(*a))
    planned(sets=1, seeds=2, suites=2)
    assert made == 2 * ["clean", "pgd", "pgd"]


def test_looking_at_a_network_loads_no_compiler():
    look = (
        "from pipeline.planning.compatibility.fits import find_family_and_side;"
        "find_family_and_side('wrn-34-10');"
    )
    look += "import sys; print('torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", look]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_whole_number_is_not_searched_for_a_fraction():
    assert schema.parse_fractions("0" * 200_000) == "0" * 200_000  # quadratic where it is
