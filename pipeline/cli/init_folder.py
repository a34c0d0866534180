"""The verb ``init``: a configuration to begin with, from a preset or for a folder of images."""

import argparse
from pathlib import Path

from pipeline.cli.image_config import format_image_config
from pipeline.cli.workflow_root import find_workflow_root
from pipeline.discovery import suggest_known
from pipeline.errors import COMMAND, RetortError
from pipeline.store.artefact import write_text
from pipeline.upkeep.listing import format_table

DEMO = "demo"  # the default configuration
CONFIG_FILE, IGNORE_FILE = "config.yaml", ".gitignore"
IGNORED = ("/store/", "/data/", "/logs/", "/.snakemake/")


def run_verb(options: argparse.Namespace) -> None:
    """Write the files, or list the presets.

    Raises:
        RetortError: the folder is a file or has a configuration already; there is no such preset,
            or no images.
    """
    presets = find_presets()
    if options.list:
        print(format_table([(name, read_first_line(path)) for name, path in presets.items()]))
        return
    if options.folder.exists() and not options.folder.is_dir():
        raise RetortError(f"{options.folder}: is no folder; name one, which may be new")
    target = options.folder / CONFIG_FILE
    if target.exists():
        raise RetortError(f"{target}: exists already; move it, or give another folder")
    if options.images:
        text = format_image_config(options.images, options.folder)
    else:
        text = read_preset(presets, options.preset or DEMO)
    write_text(target, text)
    add_ignored(options.folder / IGNORE_FILE)
    print(f"{target}: written; 'retort plan' shows what it stands for, 'retort run' makes it")


def find_presets() -> dict[str, Path]:
    """The file of each configuration that comes with Retort, by name."""
    root = find_workflow_root()
    files = [*(root / "workflow").glob("*.yaml"), *(root / "workflow" / "presets").glob("*.yaml")]
    return {DEMO: root / CONFIG_FILE} | {path.stem: path for path in sorted(files)}


def read_preset(presets: dict[str, Path], name: str) -> str:
    """The text of a preset.

    Raises:
        RetortError: there is none of that name.
    """
    if name not in presets:
        hint = suggest_known(name, presets)
        raise RetortError(f"--preset {name}: there is none{hint}; see '{COMMAND} init --list'")
    return presets[name].read_text()


def read_first_line(path: Path) -> str:
    """The comment that a configuration begins with."""
    return path.read_text().partition("\n")[0].lstrip("# ")


def add_ignored(path: Path) -> None:
    """Add what a run makes to a ``.gitignore``, line by line where it is missing."""
    present = path.read_text().splitlines() if path.exists() else []
    write_text(path, "\n".join([*present, *(e for e in IGNORED if e not in present)]) + "\n")
