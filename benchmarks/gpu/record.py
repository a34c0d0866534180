"""The result of a run, written anew whenever something is added to it."""

import json
import platform
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from benchmarks.timing import format_table, name_commit, name_versions

QUANTITIES = {  # by name in the data: how an aim of it is written
    "images/s": "≥ {:,g} images/s",
    "share": "≥ {:g} % of the floor",
    "textbook": "≥ {:.3g} × textbook",
}
PACKAGES = ("torch", "torchvision", "timm", "numpy")
FRAMES, ERROR_LENGTH = 3, 1500  # of an error: the innermost frames and the characters in the report


@dataclass(frozen=True)
class Aim:
    """What the median of a quantity should be at least."""

    quantity: str
    least: float

    def __str__(self) -> str:
        return QUANTITIES[self.quantity].format(self.least)

    def is_reached(self, summary: dict[str, dict[str, float]]) -> bool:
        """Whether the quantity's median is as large."""
        return summary[self.quantity]["median"] >= self.least


@dataclass
class Report:
    """What was found so far.

    Attributes:
        folder: where the result is written.
        card: name of the card or processor.
        scale: share of the full sizes.
        rows: by table and name, a row.
        failures: what ended with an error or a failed test.
        profiles: by work, a table of where the time of one that misses its aim goes.
    """

    folder: Path
    card: str
    scale: float
    tests: str = ""
    rows: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    data: dict[str, dict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    profiles: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None

    def add_tests(self, text: str, is_good: bool) -> None:
        """What pytest printed, and whether no test failed."""
        self.tests = text
        if not is_good:
            self.failures.append("tests")
        self.save()

    def add_row(self, table: str, row: list[str], name: str, data: object) -> None:
        """A row of a table, and the same as data; it takes the place of a row of the same name."""
        self.rows.setdefault(table, {})[name] = row
        self.data.setdefault(table, {})[name] = data
        print(" | ".join(row), flush=True)
        self.save()

    def add_note(self, text: str) -> None:
        """Why something is not there."""
        self.notes.append(text)
        print(text, flush=True)
        self.save()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Note an error of the block, with its innermost frames, so that what follows still runs.

        Args:
            what: names the block in the note.
        """
        try:
            yield
        except Exception as error:
            self.failures.append(what)
            text = "".join(traceback.format_exception(error, limit=-FRAMES)).strip()
            block = f"<!-- block: output -->\n```text\n{text[-ERROR_LENGTH:]}\n```"
            self.add_note(f"Failed: {what}.\n\n{block}")

    def add_profile(self, name: str, table: str) -> None:
        """Where the time of a work goes that misses its aim."""
        self.profiles[name] = table
        self.save()

    def finish(self, seconds: float) -> None:
        """Note how long all of it took."""
        self.seconds = seconds
        self.save()

    def save(self) -> None:
        """Write `gpu-<card>.md`, and the data beside it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"gpu-{re.sub(r'[^a-z0-9]+', '-', self.card.lower()).strip('-')}"
        (self.folder / f"{name}.md").write_text(self.format())
        (self.folder / f"{name}.json").write_text(json.dumps(self.data, indent=1) + "\n")

    def format(self) -> str:
        """The page."""
        took = "" if self.seconds is None else f"; it took {self.seconds:.0f} s"
        small = "" if self.scale == 1 else f" **Sizes are {self.scale:g} of the full ones.**"
        text = f"""# On {self.card}

`python benchmarks/gpu/run.py`{took}. Python {platform.python_version()}, {name_versions(PACKAGES)};
commit {name_commit()}; {date.today()}.{small}
"""
        if self.tests:
            text += f"\n## Tests\n\n<!-- block: output -->\n```text\n{self.tests}\n```\n"
        for table, rows in self.rows.items():
            text += f"\n## {table}\n\n{format_table(HEADS[table], [*rows.values()])}\n"
        for name, profile in self.profiles.items():
            text += f"\n### Where the time goes: {name}\n\n"
            text += f"<!-- block: output -->\n```text\n{profile}\n```\n"
        return text + "".join(f"\n{note}\n" for note in self.notes)


CARD = "The card"
FIGURES = "Steps and a bank"
STUDY = "Study"
HEADS = {
    CARD: ["what", "median [least, greatest]"],
    FIGURES: [
        "work",
        "images a second",
        "share of the floor",
        "textbook / ours, in time",
        "rounds",
        "aim at full size, and whether it is reached",
    ],
    STUDY: ["model", "epochs", "seconds", "clean", "PGD-20", "AutoAttack"],
}
