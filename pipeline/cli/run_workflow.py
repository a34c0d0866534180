"""The verb ``run``: Snakemake on the packaged workflow, with the options that are always wanted."""

import argparse
import os
import sys
from pathlib import Path

from pipeline.cli.workflow_root import find_workflow_root
from pipeline.config.reader import read_config
from pipeline.errors import RetortError

SET_VALUES = {"--config", "-C"}  # Snakemake's options that set values of the configuration


def run_verb(options: argparse.Namespace) -> None:
    """Become Snakemake, so that signals and the exit status are its own.

    The workflow reads the configuration again, with the values that `--config` sets; where it sets
    some, the files are not looked at alone before.

    Raises:
        RetortError: the configuration is faulty, or the profile does not exist.
    """
    if not SET_VALUES.intersection(word.partition("=")[0] for word in options.rest):
        read_config(*options.configfile)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *list_arguments(options)])


def list_arguments(options: argparse.Namespace) -> list[str]:
    """Snakemake's command line for the verb's options; ``options.rest`` goes to it as it is."""
    arguments = ["--snakefile", str(find_workflow_root() / "Snakefile")]
    arguments += ["--configfile", *map(str, options.configfile)]
    if options.profile:
        arguments += ["--profile", find_profile(options.profile)]
    if options.cores or not options.profile:
        arguments += ["--cores", options.cores or "all"]
    if options.dry_run:
        arguments.append("--dry-run")
    return arguments + options.rest


def find_profile(name: str) -> str:
    """A profile as Snakemake takes it: a path, one of the workflow's own, or any it finds by name.

    Raises:
        RetortError: it is none of them.
    """
    own = find_workflow_root() / "profiles"
    for folder in (Path(name), own / name):
        if (folder / "config.yaml").is_file():
            return str(folder)
    from snakemake.cli import get_profile_dir  # loads nearly all of Snakemake

    if get_profile_dir(name) is not None:
        return name
    known = ", ".join(sorted(path.name for path in own.iterdir()))
    raise RetortError(
        f"--profile {name}: no folder with a config.yaml, neither here nor where Snakemake looks; "
        f"Retort's own are {known}"
    )
