"""The verb ``completion``: the script that teaches a shell Retort's verbs and options."""

import argparse

import shtab

from pipeline.cli.arguments import build_parser


def run_verb(options: argparse.Namespace) -> None:
    """Print the script."""
    print(shtab.complete(build_parser(), options.shell))
