"""A verb of the command line with its help and example, and the configuration that it reads."""

import argparse
from pathlib import Path

from rich_argparse import RawDescriptionRichHelpFormatter

from pipeline.errors import COMMAND

CONFIGURATION = Path("config.yaml")


def add_verb(
    verbs, name: str, module: tuple[str, str], help_text: str, example: str
) -> argparse.ArgumentParser:
    """A verb of a module, with an example below its help.

    Options are written in full: `--config` is one of Snakemake's, and no short `--configfile`.
    """
    verb = verbs.add_parser(
        name,
        help=help_text,
        description=f"{help_text[0].upper()}{help_text[1:]}.",
        epilog=f"example:\n  {COMMAND} {example}",
        allow_abbrev=False,
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    verb.set_defaults(module=module)
    return verb


def add_configured_verb(
    verbs,
    name: str,
    module: tuple[str, str],
    help_text: str,
    example: str,
    *,
    files: str | int = "+",
) -> argparse.ArgumentParser:
    """A verb of a module that reads a configuration, from one file or from several merged.

    ``files`` is 1 for a verb with arguments of its own, which would be taken for files.
    """
    verb = add_verb(verbs, name, module, help_text, example)
    add_configuration_option(verb, files)
    return verb


def add_configuration_option(verb: argparse.ArgumentParser, files: str | int) -> None:
    """`--configfile`: where a verb finds the experiment."""
    what = "the configuration; config.yaml unless given"
    several = "; of several files a later one wins, key by key" if files == "+" else ""
    verb.add_argument(
        "--configfile",
        type=Path,
        nargs=files,
        default=[CONFIGURATION],
        metavar="FILE",
        help=what + several,
    )
