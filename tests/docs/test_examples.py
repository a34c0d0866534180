"""Every example is planned, and its README is short."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.discovery import use_plugin_folders
from pipeline.planning.graph import make_plan_from_dict
from tests.docs.blocks import merge_sections
from tests.helpers.graph import ROOT

FOLDERS = sorted(path.parent for path in (ROOT / "examples").glob("*/config.yaml"))
README_LINES = 25
MADE = {"sweep": 18, "bank-reuse": 4, "extraction": 2, "cluster": 6}  # students


@pytest.fixture
def forget_plugins() -> Iterator[None]:
    """An example's own plug-ins are known to its test alone."""
    yield
    use_plugin_folders(())


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_an_example_is_planned(folder: Path, tmp_path, monkeypatch, forget_plugins):
    monkeypatch.chdir(folder)
    raw = {"store": str(tmp_path / "store"), **yaml.safe_load((folder / "config.yaml").read_text())}
    for path in set(folder.glob("*.yaml")) - {folder / "config.yaml"}:
        raw = merge_sections(raw, yaml.safe_load(path.read_text()))
    students = [name for kind, name in make_plan_from_dict(raw).refs_by_name if kind == "student"]
    assert students
    assert len(students) == MADE.get(folder.name, len(students))


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_an_example_says_in_few_lines_what_it_is(folder: Path):
    assert len((folder / "README.md").read_text().splitlines()) <= README_LINES


def test_there_is_an_example_of_each_kind():
    kinds = {"own-images", "foreign-teacher", "sweep", "bank-reuse", "extraction", "cluster"}
    kinds.add("own-method")
    assert kinds <= {folder.name for folder in FOLDERS}
