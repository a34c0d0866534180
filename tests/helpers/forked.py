"""Children forked from this process: real processes that need not import everything anew."""

import importlib
import logging
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HEAVY = ("torch", "numpy", "yaml", "pydantic", "snakemake.cli")  # what a stage or a plan imports


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status, negative for a signal, and all it printed."""

    status: int
    text: str


def preload(*modules: str) -> None:
    """Import what the children will want; third parties' warnings are none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in modules:
            importlib.import_module(module)


def forked(work: Callable[[], int], cwd: Path, environment: dict[str, str]) -> Ended:
    """Run ``work`` in a child in a folder, with a process group of its own; its int is the status.

    An exception's traceback is printed by the child, whose status is then 1.
    """
    with tempfile.TemporaryFile("w+") as printed:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
            child = os.fork()
        if child == 0:
            os._exit(_live(work, cwd, environment, printed.fileno()))
        try:
            _, ended = os.waitpid(child, 0)
        except BaseException:
            os.killpg(child, signal.SIGKILL)
            raise
        printed.seek(0)
        return Ended(os.waitstatus_to_exitcode(ended), printed.read())


def _live(work: Callable[[], int], cwd: Path, environment: dict[str, str], printed: int) -> int:
    """The child's life."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(printed, number)
        stream = open(number, "w", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    logging.getLogger().handlers.clear()
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    try:
        return work()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def forget_package() -> None:
    """Make the child import this package anew, from whatever comes first on the path."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "pipeline"]:
        del sys.modules[name]


def snakemake(
    arguments: list[str], cwd: Path, environment: dict[str, str], *, fresh: bool
) -> Ended:
    """Snakemake's own command line in a child; ``fresh`` reads our package from the Snakefile's."""
    preload(*HEAVY)

    def work() -> int:
        if fresh:
            forget_package()
        sys.argv = ["snakemake", *arguments]
        return sys.modules["snakemake.cli"].main(arguments)

    return forked(work, cwd, environment)
