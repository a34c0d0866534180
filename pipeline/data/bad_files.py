"""The images of an index that cannot be decoded, all found before anything learns from them."""

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
from PIL import Image

from pipeline.data.file_index import describe_header
from pipeline.data.lazy_images import FileImages, decode_image, get_decoder_pool
from pipeline.errors import RetortError
from pipeline.progress import Progress
from pipeline.store.artefact import read_json, write_json

REVISION = 1

STATE_FILE = "decoded.json"
CHUNK_ROWS = 2048  # images decoded between two notes of how far it is
EXIF_ORIENTATION = 0x0112
UPRIGHT = (None, 1)  # values of that tag that leave an image as it is

log = logging.getLogger("retort")


@dataclass
class DecodingState:
    """How far the images of an index are decoded; it outlives a kill.

    Attributes:
        index: sum of the index that the rows are of.
        rows: number of first rows that are done.
        turned: number of images that an EXIF tag turns.
        faults: what is wrong, by row.
    """

    index: str
    rows: int = 0
    turned: int = 0
    faults: dict[str, str] = field(default_factory=dict)


def find_bad_rows(images: FileImages, whole: int, folder: Path) -> dict[int, str]:
    """Rows whose file is no image, with "path: what is wrong".

    Args:
        images: the images of an index.
        whole: number of first rows that are decoded; of the others the header is read.
        folder: where it is noted how far the check is, for the next attempt.
    """
    state = read_state(folder / STATE_FILE, compute_index_sum(images.table))
    progress = Progress("decoded image", len(images), state.rows)
    while state.rows < len(images):
        rows = range(state.rows, min(state.rows + CHUNK_ROWS, len(images)))
        places = images.table.slice(rows.start, len(rows)).to_pylist()
        judged = get_decoder_pool().map(
            lambda row, place: judge_image(images, place, row < whole), rows, places
        )
        for row, (fault, is_turned) in zip(rows, judged, strict=True):
            state.turned += is_turned
            if fault:
                state.faults[str(row)] = fault
            progress.add_steps()
        state.rows = rows.stop
        write_json(folder / STATE_FILE, asdict(state))
    if state.turned and images.decode == "plain":
        log.info(
            "%d images lie on their side: a viewer turns them by their EXIF tag, 'decode: as_seen' "
            "in the source does so too",
            state.turned,
        )
    return {int(row): fault for row, fault in state.faults.items()}


def read_state(path: Path, index: str) -> DecodingState:
    """What an earlier attempt noted, if it was about the same index."""
    if path.exists():
        found = read_json(path, "delete it and run again")
        if found.get("index") == index:
            return DecodingState(**found)
    return DecodingState(index)


def compute_index_sum(table: pa.Table) -> str:
    """A sum over the locations of an index, in their order."""
    digest = hashlib.sha256()
    for name in ("file", "offset", "size"):
        digest.update(repr(table[name].to_pylist()).encode())
    return digest.hexdigest()


def judge_image(images: FileImages, place: Mapping, decodes: bool) -> tuple[str, bool]:
    """What is wrong with one image, empty if nothing is; and whether an EXIF tag turns it."""
    path = images.root / place["file"]
    if not decodes and not place["offset"]:
        try:
            with path.open("rb") as file:
                fault = describe_header(file)
        except OSError as error:
            fault = f"cannot be read ({error.strerror})"
        return (f"{path}: {fault}" if fault else ""), False
    try:
        data, where = images.read_bytes(place)
    except RetortError as error:
        return str(error).partition("; ")[0], False
    if fault := describe_header(io.BytesIO(data)):
        return f"{where}: {fault}", False
    if not decodes:
        return "", False
    try:
        decode_image(data, where, images.decode)
    except RetortError as error:
        return str(error).rpartition("; ")[0], False
    with Image.open(io.BytesIO(data)) as image:
        return "", image.getexif().get(EXIF_ORIENTATION) not in UPRIGHT
