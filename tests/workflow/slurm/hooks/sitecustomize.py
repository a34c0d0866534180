"""Python imports this at its start where this folder is on the path: it holds up chosen stages.

`HELD_STAGES` names a folder. The file `<verb>.ticket` in it is taken by the first stage of that
verb that is about to put a file in its artefact's place. That stage writes `<verb>.held`, its SLURM
job and its process id, and stops itself. So whoever finds it has all the time he needs: it can
neither end nor go on before a signal comes.
"""

import os
import signal
import sys
from pathlib import Path


def take_ticket(notes: Path, verb: str) -> bool:
    """Whether this process is the first to remove the verb's ticket."""
    try:
        (notes / f"{verb}.ticket").unlink()
    except FileNotFoundError:
        return False
    return True


def hold(notes: Path, verb: str, artefact: Path) -> None:
    """Stop this process at its first rename to a file of the artefact, if its verb has a ticket."""
    waiting = True

    def watch(event: str, arguments: tuple) -> None:
        nonlocal waiting
        if waiting and event == "os.rename" and artefact in Path(arguments[1]).absolute().parents:
            waiting = False
            if take_ticket(notes, verb):
                (notes / f"{verb}.new").write_text(f"{os.environ['SLURM_JOB_ID']} {os.getpid()}")
                os.rename(notes / f"{verb}.new", notes / f"{verb}.held")
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(watch)


if "HELD_STAGES" in os.environ and sys.orig_argv[1:3] == ["-m", "pipeline"]:
    hold(Path(os.environ["HELD_STAGES"]), sys.orig_argv[3], Path(sys.orig_argv[4]).absolute())
