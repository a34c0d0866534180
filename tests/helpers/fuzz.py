"""Readers of manifests, job files, shards and configurations, fed with what is none.

`python -m tests.helpers.fuzz CASES` runs that many cases of each; the tests run a few hundred.
Whatever comes, a reader returns or raises RetortError with one line.
"""

import copy
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.banks.shards import FIELD_TYPES, read_shard, write_shard
from pipeline.config.reader import read_config
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.store.artefact import JOB_FILE, MANIFEST_FILE, open_artefact, read_job
from pipeline.upkeep.listing import read_input_refs
from pipeline.upkeep.verify import find_faults
from tests.helpers.graph import TINY

KEY = "0123456789ab"
YAML_SIGNS = (
    "\t",
    "  \t",
    "? ",
    "- ",
    ": ",
    "&a ",
    "*a",
    "!!set ",
    "!!int ",
    "!!python/tuple ",
    "<<: ",
)
YAML_SIGNS += (
    "{",
    "[",
    "]",
    "'",
    '"',
    "|",
    "%",
    "---",
    "...",
    "#",
    "=: 1",
    "on: 1",
    "7: x",
    "~: 1",
)
YAML_SIGNS += (
    "2024-99-01",
    "0x",
    "1:61:61",
    ".nan",
    "\ufeff",
    "\0",
    "\x85",
    "seed: 1",
    "grid: [1, 1]",
)
WORDS = ("", "../x", "/etc", "a\nb", "\0", "8/255", "1/0", "nan", "natural", "x" * 300, "{grid}")
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
) | st.sampled_from(WORDS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(lambda values: {"grid": values})
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=6,
)
ABOUT = {"sha256": "0" * 64, "bytes": 3}
VALID_MANIFEST = {
    "kind": "bank",
    "name": "dad",
    "key": KEY,
    "spec": {"shards": 2},
    "inputs": {"teacher": "a" * 12},
    "files": {"shard-00000.tar": ABOUT},
    "facts": {"rows": 3},
    "code": {"pipeline.banks.shards": 1},
    "fingerprint": "0" * 16,
}
VALID_ORDER = {
    **{name: VALID_MANIFEST[name] for name in ("kind", "name", "key", "spec", "code")},
    "inputs": {"teacher": "teacher/" + "a" * 12},
    "run": {"data": "data"},
    "strict": "",
}


@st.composite
def altered(draw, tree: object) -> object:
    """A tree of plain values with up to three places changed, dropped or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        place = tree
        while True:
            if not isinstance(place, dict | list) or not place:
                break
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            deeper = isinstance(place[key], dict | list) and place[key]
            if deeper and draw(st.integers(0, 3)):
                place = place[key]
                continue
            how = draw(st.sampled_from(("change", "change", "drop", "add")))
            if how == "change":
                place[key] = draw(VALUES)
            elif how == "drop":
                del place[key]
            elif isinstance(place, dict):
                place[draw(st.text(max_size=5) | st.sampled_from(WORDS))] = draw(VALUES)
            break
    return tree


@st.composite
def scrambled(draw, whole: Callable[[], bytes]) -> bytes:
    """Bytes with some cut, changed, or put in."""
    data = bytearray(whole())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        how = draw(st.sampled_from(("cut", "set", "put", "drop")))
        if how == "cut":
            del data[at:]
        elif how == "set" and data:
            data[at] = draw(st.integers(0, 255))
        elif how == "put":
            data[at:at] = draw(st.binary(max_size=600))
        else:
            del data[at : at + draw(st.integers(1, 600))]
    return bytes(data)


def as_json(tree: dict) -> st.SearchStrategy[bytes]:
    """Texts near a JSON file."""
    whole = json.dumps(tree).encode()
    return (
        altered(tree).map(lambda t: json.dumps(t).encode()) | scrambled(lambda: whole) | st.binary()
    )


def as_yaml(tree: dict) -> st.SearchStrategy[bytes]:
    """Texts near a YAML file."""
    whole = yaml.safe_dump(tree).encode()
    texts = altered(tree).map(
        lambda t: yaml.safe_dump(t, allow_unicode=True).encode("utf-8", "replace")
    )
    return texts | scrambled(lambda: whole) | signed(whole.decode()) | st.binary()


@st.composite
def signed(draw, text: str) -> bytes:
    """A YAML text with signs of YAML put in, most of them where a line or its value begins."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        number, sign = draw(st.integers(0, len(lines) - 1)), draw(st.sampled_from(YAML_SIGNS))
        line = lines[number]
        at = draw(
            st.sampled_from((0, len(line) - len(line.lstrip()), line.find(" ") + 1, len(line)))
        )
        lines[number] = line[:at] + sign + line[at:]
        if draw(st.booleans()):
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
    return "\n".join(lines).encode("utf-8", "replace")


@cache
def a_shard() -> bytes:
    """A whole shard of one block."""
    kinds = {name: kind[0] for name, kind in FIELD_TYPES.items()}
    names = ("row", "label", "accepted", "t_clean", "x_adv", "t_adv", "flips")
    block = {name: np.ones((2, 3), kinds[name]) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard-00000.tar"
        write_shard(path, iter([(0, block, {"rows": 2})]))
        return path.read_bytes()


@st.composite
def tars(draw) -> bytes:
    """A tar of members that no shard has, or whose arrays are none."""
    buffer = io.BytesIO()
    suffixes = st.sampled_from(("npy", "row.npy", "x_adv.npy", "pyd", "pth", "pkl", "png", "jpg"))
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for _ in range(draw(st.integers(0, 4))):
            member = tarfile.TarInfo(f"{draw(st.text('0a/.', max_size=5))}.{draw(suffixes)}")
            data = draw(
                st.binary(max_size=80) | st.just(b"\x93NUMPY\x01\x00\x10\x00{'descr':'|O'}")
            )
            member.size = len(data)
            member.type = draw(st.sampled_from((tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)))
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


class Fed(bytes):
    """A case whose text is short: a whole shard is no use to a reader."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes: {bytes(self[:60])!r}…>"


def only_ours(work: Callable[[], object]) -> str:
    """Let the work return, or fail as it may; what it said."""
    try:
        work()
        said = "nothing"
    except RetortError as error:
        said = str(error)
    assert said
    assert said.isprintable(), "not one line"
    return said


def manifest(place: Path, data: bytes) -> None:
    """Manifests, and what `verify` says of them."""
    folder = place / "bank" / KEY
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_FILE).write_bytes(data)
    only_ours(lambda: open_artefact(folder))
    only_ours(lambda: list(find_faults(place, f"bank/{KEY}")))


def order(place: Path, data: bytes) -> None:
    """Work orders."""
    folder = place / "bank" / KEY
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOB_FILE).write_bytes(data)
    (folder / MANIFEST_FILE).write_text(json.dumps(VALID_MANIFEST))
    only_ours(lambda: read_job(folder))
    only_ours(lambda: read_input_refs(folder))
    only_ours(lambda: list(find_faults(place, f"bank/{KEY}")))


def shard(place: Path, data: bytes) -> None:
    """A bank's shards."""
    path = place / "shard-00000.tar"
    path.write_bytes(data)
    only_ours(lambda: list(read_shard(path)))
    only_ours(lambda: list(read_shard(path, loads_images=False)))


def configuration(place: Path, data: bytes) -> None:
    """Configurations."""
    path = place / "experiment.yaml"
    path.write_bytes(data)
    said = only_ours(lambda: make_plan(read_config(path)))
    assert said == "nothing" or said.startswith(str(path)), f"names no file: {said}"


INPUTS = {
    manifest: as_json(VALID_MANIFEST),
    order: as_json(VALID_ORDER),
    shard: scrambled(a_shard) | tars() | st.binary(),
    configuration: as_yaml(yaml.safe_load(TINY.read_text())),
}


def fuzz(reader: Callable, cases: int, place: Path) -> None:
    """Feed a reader with that many cases."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

    @settings(max_examples=cases, derandomize=True, suppress_health_check=slow, deadline=None)
    @given(INPUTS[reader].map(Fed))
    def case(data: bytes) -> None:
        reader(place, data)

    case()


if __name__ == "__main__":
    for each in INPUTS:
        with tempfile.TemporaryDirectory() as temporary:
            fuzz(each, int(sys.argv[1]), Path(temporary))
        print(f"{each.__name__}: {sys.argv[1]} cases, no exception but ours", flush=True)
