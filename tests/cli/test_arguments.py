"""The command line: each verb explains itself with an example that parses; unknown options stop."""

import argparse
import shlex
from collections.abc import Iterator

import pytest

from pipeline.cli.arguments import build_parser
from pipeline.cli.main import main, parse_arguments
from pipeline.store.artefact import STAGES_BY_KIND


def list_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all parsers of its verbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from list_parsers(each)


PARSERS = {parser.prog: parser for parser in list_parsers(build_parser())}
STAGES = [f"retort {stage}" for stage in STAGES_BY_KIND.values()]
VERBS = sorted(set(PARSERS) - {"retort", *STAGES})


@pytest.mark.parametrize("prog", VERBS)
def test_each_verb_has_an_example_that_parses(prog):
    example = PARSERS[prog].epilog.split("example:\n  ")[1].split("\n")[0].split(" > ")[0]
    assert example.startswith(prog)
    options = parse_arguments(shlex.split(example)[1:])
    assert options.verb == prog.split()[1]
    assert options.rest == []


@pytest.mark.parametrize("prog", sorted(PARSERS))
def test_every_option_is_explained(prog):
    actions = PARSERS[prog]._actions
    unexplained = [a.dest for a in actions if not (a.help or a.choices)]
    assert unexplained == []


def test_the_first_page_shows_verbs_and_no_stages():
    page = build_parser().format_help()
    assert "retort init --images" in page
    assert [stage for stage in STAGES_BY_KIND.values() if f"\n    {stage} " in page] == []
    assert parse_arguments(["distill", "store/student/x"]).verb == "distill"


def test_run_keeps_what_is_snakemakes_and_other_verbs_refuse_it(capsys):
    assert parse_arguments(["run", "--until", "dataset", "-n"]).rest == ["--until", "dataset"]
    with pytest.raises(SystemExit):
        main(["plan", "--until", "dataset"])
    assert "unrecognized arguments: --until dataset" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_names_verbs_and_options(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "init" in script
    assert "images" in script
