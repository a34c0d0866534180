"""What an edit of the code makes run again, on a copy of the project in a git repository."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.graph import ROOT, Folder, everything_of, tiny

PARTS = ("Snakefile", "pipeline", "rules", "profiles", "config.yaml")
OBJECTIVE = "pipeline/objectives/rslad.py"


def git(place: Path, *arguments: str) -> None:
    """Git in a folder, whoever the user is."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=start")
    subprocess.run(["git", *who, *arguments], cwd=place, check=True, capture_output=True)


@pytest.fixture
def copied(made, tmp_path) -> Folder:
    """The made tiny experiment, and a copy of the project under version control."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, tmp_path / part)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "as it is")
    made.write(tiny())
    return Folder(made.path, tmp_path)


def revise(path: Path) -> None:
    """Raise a module's REVISION."""
    text = path.read_text()
    number = int(text.split("REVISION = ")[1].split()[0])
    path.write_text(text.replace(f"REVISION = {number}", f"REVISION = {number + 1}"))


def comments(folder: Folder) -> set[str]:
    for path in (folder.root / "pipeline").rglob("*.py"):
        path.write_text(f"# a remark\n{path.read_text()}")
    return set()


def code_of_an_objective(folder: Folder) -> set[str]:
    path = folder.root / OBJECTIVE
    path.write_text(path.read_text() + "\nNOTHING = None\n")
    return set()


def revision_of_an_objective(folder: Folder) -> set[str]:
    revise(folder.root / OBJECTIVE)
    return everything_of("rslad", tiny())


def revision_of_the_report(folder: Folder) -> set[str]:
    revise(folder.root / "pipeline/report/figures.py")
    return {"report/report"}


def text_of_a_rule(folder: Folder) -> set[str]:
    path = folder.root / "rules/student.smk"
    path.write_text(path.read_text().replace("priority: 60", "priority: 61"))
    return set()


def touched_modules(folder: Folder) -> set[str]:
    for path in folder.root.rglob("*.py"):
        path.touch()
    return set()


def another_branch(folder: Folder) -> set[str]:
    git(folder.root, "checkout", "-b", "elsewhere")
    revise(folder.root / OBJECTIVE)
    git(folder.root, "commit", "-am", "another number")
    return everything_of("rslad", tiny())


def another_branch_and_back(folder: Folder) -> set[str]:
    path = folder.root / OBJECTIVE
    before = path.read_text(), path.stat().st_mtime_ns
    another_branch(folder)
    git(folder.root, "checkout", "start")
    assert path.read_text() == before[0]
    assert path.stat().st_mtime_ns > before[1]
    return set()


EDITS = (
    comments,
    code_of_an_objective,
    revision_of_an_objective,
    revision_of_the_report,
    text_of_a_rule,
    touched_modules,
    another_branch,
    another_branch_and_back,
)


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.__name__)
def test_an_edit_of_the_code_plans_exactly_these_jobs(copied, edit: Callable):
    expected = edit(copied)
    assert copied.planned() == expected
