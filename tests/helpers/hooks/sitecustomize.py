"""Python imports this at its start where this folder is on the path: the killer of whole workflows.

`CHAOS=moment:signal` and `CHAOS_COUNTER=file` make every job of this package count in the file, a
byte a time, what it does to files, and at the chosen count kill its process group.
"""

import os
import sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TOUCHES = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def touches(event: str, arguments: tuple) -> bool:
    """Whether an audit event is something done to a file."""
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    return bool(writes) or event in TOUCHES


def haunt() -> None:
    """Count from now on, and kill in time."""
    moment, number = map(int, os.environ["CHAOS"].split(":"))
    counter = os.open(os.environ["CHAOS_COUNTER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def watch(event: str, arguments: tuple) -> None:
        if touches(event, arguments):
            os.write(counter, b".")
            if os.fstat(counter).st_size == moment:
                os.killpg(os.getpgid(0), number)

    sys.addaudithook(watch)


if "CHAOS" in os.environ and sys.orig_argv[1:3] == ["-m", "pipeline"]:
    haunt()
