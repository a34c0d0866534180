"""What a machine does to a job: a store nobody may write to, memory that ends. One line each."""

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.store.artefact import STAGES_BY_KIND
from tests.helpers import forked
from tests.helpers.graph import Folder, environment, tiny

OVERRIDES = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: root's way past file modes


def bound_by_modes() -> None:
    """Let file modes count for this process, as they do for everybody but root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for which in (0, 1):  # effective, permitted
        sets[which] &= ~OVERRIDES
    assert libc.capset(header, sets) == 0


SHORT_OF_MEMORY = """
import resource
import sys
from pathlib import Path
import torch
from pipeline.cli import main as cli
from pipeline.stages import prepare_data

main = cli.main
assert main(["prepare_data", sys.argv.pop()]) == 0  # whatever a job imports is there then

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 60 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def ordered(tmp_path) -> tuple[Folder, Path]:
    """The tiny data set's job file."""
    folder, raw = Folder(tmp_path), tiny()
    folder.write({k: raw[k] for k in ("store", "seed", "run", "recipes", "datasets")})
    assert run(folder, lambda: None, "plan", "--write", "--configfile", "experiment.yaml")[0] == 0
    (place,) = (tmp_path / "store/dataset").iterdir()
    return folder, place


def run(folder: Folder, handicap: Callable, *arguments: str) -> tuple[int, str]:
    """A verb in a child with a handicap: exit status and what it printed."""
    forked.preload(
        "pipeline.cli.main",
        "torch",
        *(f"pipeline.stages.{stage}" for stage in STAGES_BY_KIND.values()),
    )

    def work() -> int:
        from pipeline.cli.main import main

        handicap()
        return main([*arguments])

    ended = forked.forked(work, folder.path, environment())
    return ended.status, ended.text


def errors(printed: str) -> list[str]:
    """The error lines of what was printed, which must hold no traceback."""
    assert "Traceback" not in printed
    return [line for line in printed.splitlines() if line.startswith("error: ")]


def test_a_job_in_a_folder_it_may_not_write_to_is_one_line(ordered):
    folder, place = ordered
    place.chmod(0o555)
    status, printed = run(folder, bound_by_modes, "prepare_data", str(place))
    place.chmod(0o755)
    assert status == 2
    (line,) = errors(printed)
    assert line.startswith(f"error: {place}: no lease can be taken (Permission denied); make the")
    assert [path.name for path in place.iterdir()] == ["spec.json"]
    assert run(folder, bound_by_modes, "prepare_data", str(place))[0] == 0


def test_a_store_nobody_may_write_to_is_one_line(ordered):
    folder, _ = ordered
    store = folder.path / "store"
    raw = tiny()
    raw["datasets"]["other"] = {**raw["datasets"]["tiny"], "train": 64}
    folder.write(raw)
    for path in (store, store / "dataset"):
        path.chmod(0o555)
    words = ("plan", "--write", "--configfile", "experiment.yaml")
    status, printed = run(folder, bound_by_modes, *words)
    for path in (store, store / "dataset"):
        path.chmod(0o755)
    assert status == 2
    (line,) = errors(printed)
    assert line.startswith("error: store: store: Permission denied; make it writable, free some")


def test_a_job_out_of_memory_names_itself_and_what_to_raise(ordered):
    folder, place = ordered
    raw = tiny()
    raw["datasets"] = {"other": {**raw["datasets"]["tiny"], "train": 64}}
    folder.write({k: raw[k] for k in ("store", "seed", "run", "recipes", "datasets")})
    status, _ = run(folder, lambda: None, "plan", "--write", "--configfile", "experiment.yaml")
    assert status == 0
    (twin,) = set(place.parent.iterdir()) - {place}
    ended = subprocess.run(  # a fork would find room in what earlier tests have freed
        [sys.executable, "-c", SHORT_OF_MEMORY, "prepare_data", str(place), str(twin)],
        cwd=folder.path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    (line,) = errors(ended.stderr)
    assert line == (
        f"error: {place}: out of memory; give its rule more (mem_mb) or lower its batch and run "
        "again"
    )
    assert not (place / "manifest.json").exists()
    assert run(folder, lambda: None, "prepare_data", str(place))[0] == 0
