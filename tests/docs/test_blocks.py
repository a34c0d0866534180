"""Every code block of the documentation is planned, run or parsed, as its comment says."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import snakemake.cli

from pipeline.cli.main import main, parse_arguments
from pipeline.discovery import use_plugin_folders
from pipeline.planning.graph import make_plan_from_dict
from tests.docs.blocks import BASES, BLOCKS, LANGUAGES, PAGES, Block, list_blocks
from tests.helpers.copies import Copy
from tests.helpers.graph import ROOT, tiny
from tests.helpers.own import write
from tests.helpers.pictures import image

TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PLUGINS = [block for block in BLOCKS if block.kind == "plugin"]
IMAGES = 40  # of each class
OTHER_COMMANDS = {"cd", "pip", "python3", "sha256sum"}  # not ours to parse


def of_kind(*kinds: str) -> pytest.MarkDecorator:
    """The blocks of some kinds as the cases of a test."""
    found = [block for block in BLOCKS if block.kind in kinds]
    return pytest.mark.parametrize("block", found, ids=[block.place for block in found])


@pytest.fixture(scope="module")
def named_files(tmp_path_factory) -> Path:
    """A folder with what configurations name: image folders and the plug-ins of the pages."""
    root = tmp_path_factory.mktemp("named")
    for name, classes in {"photos": ("bird", "cat", "dog"), "pets": ("cat", "dog")}.items():
        for label, each in enumerate(classes):
            (root / name / each).mkdir(parents=True)
            for number in range(IMAGES):
                image(7 * label + number, label).save(root / name / each / f"{number}.png")
    np.savez(root / "adversarial.npz", x_adv=np.zeros((64, 3, 32, 32), np.float32))
    for block in PLUGINS:
        write(root / "my_methods", f"{block.base}.py", block.text)
    return root


@pytest.fixture
def workplace(named_files: Path, monkeypatch) -> Iterator[Path]:
    """That folder; this process stands in it, and what it learns of plug-ins is forgotten."""
    monkeypatch.chdir(named_files)
    yield named_files
    use_plugin_folders(())


@pytest.fixture
def finished(copy: Copy) -> Copy:
    """The made tiny experiment under the name that a reader's configuration has."""
    copy.write(tiny(), "config.yaml")
    return copy


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_every_block_says_how_it_is_tested(block: Block):
    assert block.kind in LANGUAGES, f"{block.place}: write <!-- block: … --> before it"
    assert block.language == LANGUAGES[block.kind], f"{block.place}: is no {block.kind} block"
    named = {"merge": block.base in BASES, "plugin": bool(block.base)}
    assert named.get(block.kind, not block.base), f"{block.place}: name a base, or a plug-in"


@of_kind("plan", "merge")
def test_configurations_are_planned(block: Block, workplace: Path):
    assert make_plan_from_dict(block.values).list_targets()


@of_kind("parse", "run")
def test_commands_are_understood(block: Block):
    for first, *rest in block.commands:
        check_command(first, rest)


def check_command(name: str, arguments: list[str]) -> None:
    """Fail if our command, Snakemake or make would refuse the arguments."""
    if name == "retort":
        options = parse_arguments(arguments)
        if getattr(options, "rest", None):
            snakemake.cli.parse_args(["--cores", "1", *options.rest])
    elif name == "snakemake":
        snakemake.cli.parse_args(arguments)
    elif name == "make":
        assert set(arguments) <= TARGETS, f"make {arguments}: there is no such target"
    else:
        assert name in OTHER_COMMANDS, f"{name}: neither ours nor among {OTHER_COMMANDS}"


@of_kind("run")
def test_commands_run_on_a_finished_store(block: Block, finished: Copy):
    for name, *arguments in block.commands:
        assert name == "retort", f"{block.place}: only our own verbs run here"
        assert main(arguments) == 0, f"{block.place}: retort {arguments}"


def test_plugins_pass_their_check(workplace: Path, capsys):
    assert main(["check", "my_methods"]) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    assert [block.base for block in PLUGINS if block.base.split("/")[1] not in printed] == []


# webdataset leaves the closing of a shard's file to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@of_kind("execute")
def test_python_runs_in_a_finished_store(block: Block, finished: Copy):
    exec(compile(block.text, block.place, "exec"), {"__name__": "block"})


def test_a_block_without_its_comment_is_found(tmp_path, monkeypatch):
    page = ROOT / "docs" / "index.md"
    shown = tmp_path / "page.md"
    shutil.copy(page, shown)
    shown.write_text(shown.read_text().replace("<!-- block: parse -->", "", 1))
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    kinds = [block.kind for block in list_blocks(shown)]
    assert kinds[0] == ""
    assert set(kinds[1:]) == {"parse"}


def test_the_pages_are_found():
    assert {page.parent.name for page in PAGES} > {"howto", "tutorial", "explanation", "methods"}
    assert len(BLOCKS) > 50
