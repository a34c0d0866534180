"""The folder of the workflow: Snakefile, rules, profiles, presets and default configuration."""

from pathlib import Path

PACKAGE_ROOT = Path(__file__).parents[1]


def find_workflow_root() -> Path:
    """The folder that holds the Snakefile: in a wheel within the package, in a clone above it."""
    installed = PACKAGE_ROOT / "workflow_files"
    return installed if installed.is_dir() else PACKAGE_ROOT.parent
