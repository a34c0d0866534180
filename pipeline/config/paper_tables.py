"""Names of the papers' tables and figures that a report can show."""

from typing import Literal, get_args

PaperTable = Literal[
    "adaad.1",
    "adaad.2",
    "adaad.3",
    "adaad.4",
    "adaad.5",
    "dad.1",
    "dad.2",
    "dad.3",
    "dad.4",
    "dad.5",
    "dad.6",
    "dad.7",
    "dad.8",
    "dad.9",
    "dad.10",
    "dad.11",
    "dad.12",
    "darwin.1",
    "darwin.2",
    "darwin.3",
    "darwin.4",
    "darwin.5",
    "darwin.6",
    "darwin.7",
    "darwin.8",
    "darwin.weighting",
    "derd.1",
    "derd.2",
    "derd.3",
    "derd.4",
    "derd.5",
    "derd.6",
]
PaperFigure = Literal[
    "adaad.2",
    "adaad.3",
    "darwin.3a",
    "darwin.3b",
    "darwin.4",
    "derd.5",
    "dad.2",
    "dad.3",
]
PAPER_TABLES = {name: name.replace(".", "_") for name in get_args(PaperTable)}  # -> its file's stem
