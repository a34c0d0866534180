"""The verb `run`: the command line that Snakemake gets, and what stops before it."""

import os
import sys
from types import SimpleNamespace

import pytest
import snakemake.cli

from pipeline.cli.main import main, parse_arguments
from pipeline.cli.run_workflow import list_arguments
from pipeline.cli.workflow_root import find_workflow_root
from tests.helpers.graph import ROOT, TINY

CONFIG = ("--configfile", str(TINY))
SNAKEFILE = ["--snakefile", str(ROOT / "Snakefile")]


def arguments_of(*options: str) -> list[str]:
    """Snakemake's arguments for some options of the verb."""
    return list_arguments(parse_arguments(["run", *options]))


def test_it_is_a_thin_call_of_snakemake():
    expected = [*SNAKEFILE, "--configfile", "config.yaml", "--cores", "all"]
    assert arguments_of() == expected
    assert arguments_of("--cores", "2", "-n", "--until", "student") == [
        *expected[:-1],
        *("2", "--dry-run", "--until", "student"),
    ]


def test_values_on_the_command_line_go_to_the_workflow(monkeypatch, tmp_path):
    """`--config` is no short `--configfile`, and the files alone need not be whole."""
    assert arguments_of("--config", "seed=3")[-4:] == ["--cores", "all", "--config", "seed=3"]
    monkeypatch.setattr(os, "execv", lambda path, arguments: None)
    (tmp_path / "part.yaml").write_text("seed: none\n")
    part = ("run", "--configfile", str(tmp_path / "part.yaml"))
    assert main([*part]) == 2
    assert main([*part, "--config", "seed=3"]) == 0
    assert main([*part, "-C", "seed=3"]) == 0


def test_a_profile_is_a_folder_or_one_of_ours(tmp_path):
    own = str(find_workflow_root() / "profiles" / "slurm")
    assert arguments_of("--profile", "slurm")[-2:] == ["--profile", own]
    (tmp_path / "config.yaml").write_text("cores: 1\n")
    assert arguments_of("--profile", str(tmp_path))[-2:] == ["--profile", str(tmp_path)]


def test_a_profile_may_lie_where_snakemake_looks(monkeypatch, tmp_path):
    """Files may be called as Snakemake calls them; ours win over another of the same name."""
    places = SimpleNamespace(user_config_dir=str(tmp_path), site_config_dir="/none")
    monkeypatch.setattr(snakemake.cli, "get_appdirs", lambda: places)
    for name in ("lab", "slurm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "profile.v9+.yaml").write_text("cores: 1\n")
    assert arguments_of("--profile", "lab")[-2:] == ["--profile", "lab"]
    assert arguments_of("--profile", "slurm")[-1] == str(ROOT / "profiles" / "slurm")


def test_it_becomes_snakemake(monkeypatch):
    seen = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: seen.append((path, arguments)))
    assert main(["run", *CONFIG, "--cores", "1"]) == 0
    expected = [sys.executable, "-m", "snakemake", *SNAKEFILE, *CONFIG, "--cores", "1"]
    assert seen == [(sys.executable, expected)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((*CONFIG, "--profile", "lsf"), "--profile lsf: no folder with a config.yaml"),
        (("--configfile", "none.yaml"), "none.yaml: "),
    ],
)
def test_what_cannot_run_is_one_line(options, words, capsys, monkeypatch):
    monkeypatch.setattr(os, "execv", None)
    assert main(["run", *options]) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")
