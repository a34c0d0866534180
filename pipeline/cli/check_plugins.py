"""The verb `check`: each of the user's own plug-ins is tried, one line each."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from pipeline.contracts.own_files import OWN_PACKAGE, PLUGIN_FOLDERS, show_path
from pipeline.contracts.source_checks import SINGULAR
from pipeline.discovery import (
    find_own_file,
    list_own_names,
    load_plugin,
    name_plugin_faults,
    use_plugin_folders,
)
from pipeline.errors import RetortError
from pipeline.trials import examples
from pipeline.trials.architecture import try_architecture
from pipeline.trials.attack import try_attack
from pipeline.trials.dataset import try_dataset
from pipeline.trials.generator_loss import try_generator_loss
from pipeline.trials.objective import try_objective

EXAMPLES = Path(examples.__file__).parent


def run_verb(options: argparse.Namespace) -> None:
    """Print a line for each plug-in of the folders, or the smallest valid file of a kind.

    Raises:
        RetortError: neither is asked for, a folder holds no plug-ins, or one is not valid.
    """
    if options.example:
        print((EXAMPLES / f"{options.example}.py").read_text(), end="")
        return
    if not options.folders:
        raise RetortError("check: name a folder of plug-ins, such as my_methods/, or --example")
    use_plugin_folders(options.folders)
    found = {
        (folder, name): try_plugin(folder, name, options.data)
        for folder in PLUGIN_FOLDERS
        for name in list_own_names(folder)
    }
    for (folder, name), fault in found.items():
        print(fault or f"{show_plugin(folder, name)}: ok")
    wrong = sum(map(bool, found.values()))
    if wrong:
        raise RetortError(f"check: {wrong} of {len(found)} plug-ins are not valid")


def show_plugin(folder: str, name: str) -> str:
    """The path of a plug-in's file, as it is shown."""
    return show_path(find_own_file(f"{OWN_PACKAGE}.{folder}.{name}").path)


def try_plugin(folder: str, name: str, data: Path) -> str:
    """The first fault of a plug-in in one line; empty if it has none."""
    trials: dict[str, Callable[[str], None]] = {
        "architectures": try_architecture,
        "attacks": try_attack,
        "datasets": partial(try_dataset, cache=data),
        "generator_losses": try_generator_loss,
        "objectives": try_objective,
    }
    path = show_plugin(folder, name)
    try:
        with torch.random.fork_rng(devices=[]), name_plugin_faults():
            load_plugin(folder, name)
            trials[folder](name)
    except RetortError as error:
        fault = str(error)
    except Exception as error:  # whatever our code meets in what a plug-in gave it
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
    else:
        return ""
    fault = fault if fault.startswith(path) else f"{path}: {fault}"
    example = f"retort check --example {SINGULAR[folder]}"
    return fault if example in fault else f"{fault}; '{example}' prints the smallest valid file"
