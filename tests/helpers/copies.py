"""A copy of the made tiny experiment, to be damaged; and the command line in this process."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pipeline.cli.main import main
from pipeline.store.artefact import MANIFEST_FILE, compute_manifest_sum


@dataclass(frozen=True)
class Copy:
    """A folder with the tiny experiment made, and what a verb prints there."""

    path: Path
    capture: pytest.CaptureFixture

    def place(self, label: str) -> Path:
        """An artefact's folder by `kind/name`."""
        return (self.path / "store/by-name" / label).resolve()

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a verb: exit status and what it printed, the error line last."""
        self.capture.readouterr()
        status = main([*arguments])
        out, err = self.capture.readouterr()
        return status, out + "".join(x for x in err.splitlines(True) if x.startswith("error: "))

    def write(self, raw: dict, name: str = "experiment.yaml") -> str:
        """Write a configuration and return its name."""
        (self.path / name).write_text(yaml.safe_dump(raw, sort_keys=False))
        return name

    def refs(self) -> set[str]:
        """Every `kind/key` that is finished."""
        found = (self.path / "store").glob(f"*/*/{MANIFEST_FILE}")
        return {f"{path.parent.parent.name}/{path.parent.name}" for path in found}


def flip(path: Path, at: int = 700) -> None:
    """Flip one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0xFF
    path.write_bytes(data)


def rewrite(place: Path, *, sealed: bool, **changed: object) -> None:
    """Change fields of a manifest, with or without a new sum over them."""
    data = json.loads((place / MANIFEST_FILE).read_text()) | changed
    old = data.pop("sum")
    data["sum"] = compute_manifest_sum(data) if sealed else old
    (place / MANIFEST_FILE).write_text(json.dumps(data))
