"""The page of verbs: made from the parser of the command line as it is."""

import argparse
from collections.abc import Iterator

from pipeline.cli.arguments import build_parser
from pipeline.errors import COMMAND
from pipeline.store.artefact import STAGES_BY_KIND


def list_verbs(
    parser: argparse.ArgumentParser | None = None, name: str = COMMAND
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every verb and tool by its full name, with its parser."""
    parser = parser or build_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield f"{name} {word}", inner
                yield from list_verbs(inner, f"{name} {word}")


def list_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """A verb's arguments and options, without its tools and --help."""
    skipped = (argparse._SubParsersAction, argparse._HelpAction)
    return [action for action in parser._actions if not isinstance(action, skipped)]


def name_option(action: argparse.Action) -> str:
    """An option as it is written, such as `--to FILE.tar`."""
    metavar = action.metavar or action.dest.upper()
    if not action.option_strings:
        return action.metavar or action.dest
    value = "" if action.nargs == 0 else f" {metavar}"
    return f"{', '.join(action.option_strings)}{value}"


def find_undescribed_options() -> list[str]:
    """Every verb without a description and every option without help."""
    found = []
    for name, parser in list_verbs():
        if not parser.description:
            found.append(name)
        found += [f"{name} {name_option(a)}" for a in list_options(parser) if not a.help]
    return found


def format_verb(name: str, parser: argparse.ArgumentParser) -> str:
    """One verb: what it does, how it is called, its options and its example."""
    parts = [f"## {name}", parser.description or ""]
    if options := list_options(parser):
        rows = [f"| `{name_option(a)}` | {format_choices(a)} |" for a in options]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    if parser.epilog:
        head, _, rest = parser.epilog.partition("\n\n")
        lines = [line.strip() for line in head.splitlines()[1:]]
        parts.append("\n".join(["```sh", *lines, "```"]))
        parts += [rest] if rest else []
    return "\n\n".join(parts)


def format_choices(action: argparse.Action) -> str:
    """An option's help, with the values that it takes."""
    words = (action.help or "").replace("|", "\\|").replace("<", "&lt;")
    among = ", ".join(f"`{choice}`" for choice in action.choices or ())
    return f"{words} ({among})" if among else words


def write_commands() -> str:
    """The page."""
    stages = set(STAGES_BY_KIND.values())
    verbs = [(name, parser) for name, parser in list_verbs()]
    shown = [(n, p) for n, p in verbs if n.removeprefix(f"{COMMAND} ") not in stages]
    jobs = [(n, p) for n, p in verbs if n.removeprefix(f"{COMMAND} ") in stages]
    parts = [
        "# Commands",
        f"`{COMMAND} --help` prints the verbs, `{COMMAND} run --help` the options of one.",
        *(format_verb(name, parser) for name, parser in shown),
        "# Stages",
        "A job calls one of these. By hand it makes one artefact, whose folder holds `spec.json` "
        f"(`{COMMAND} plan --write`).",
        *(format_verb(name, parser) for name, parser in jobs),
    ]
    return "\n\n".join(parts) + "\n"
