"""Images that stay in their files: an index of locations, decoded on demand."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from pipeline.core.augment import draw_crop_box
from pipeline.core.devices.placement import allocate_on_host, copy_to_device, resolve_device
from pipeline.core.seeding import make_generator
from pipeline.data.image_folder import DECODE_ERRORS, convert_to_rgb, resize_and_centre_crop
from pipeline.data.splits import Split
from pipeline.errors import RetortError, explain_denied_reading
from pipeline.store.artefact import Artefact

REVISION = 1

INDEX_SCHEMA = pa.schema(
    [
        ("file", pa.string()),  # relative to the root
        ("offset", pa.int64()),  # of the image in the file; 0: the file is the image
        ("size", pa.int64()),  # bytes
        ("label", pa.int64()),
        (
            "group",
            pa.dictionary(pa.int32(), pa.string()),
        ),  # the part of the test set, as the report names it
    ]
)
PREFETCHED_PARTS = 2  # batches read while one is in use
MOVED_HINT = "put the images (or a link to them) back there, or change the data set's 'version'"


@cache
def get_decoder_pool() -> ThreadPoolExecutor:
    """The decoding threads, which run in parallel: Pillow releases the GIL while it decodes."""
    return ThreadPoolExecutor(min(32, len(os.sched_getaffinity(0))), "decode")


os.register_at_fork(after_in_child=get_decoder_pool.cache_clear)  # threads do not outlive a fork


@dataclass(frozen=True)
class FileImages:
    """Images (N,3,size,size) uint8 in files, read when they are indexed.

    Attributes:
        root: the folder of the files.
        table: one row for each image, in ``INDEX_SCHEMA``.
        size: side of the returned images, in pixels.
        crop: share of the shorter side that the centre crop keeps.
        device: where the returned images are put.
        decode: how colours are read, as in ``image_folder.convert_to_rgb``.
    """

    root: Path
    table: pa.Table
    size: int
    crop: float = 1.0
    device: str = "cpu"
    decode: str = "plain"

    def __len__(self) -> int:
        return len(self.table)

    @property
    def shape(self) -> torch.Size:
        """(N,3,size,size)."""
        return torch.Size((len(self), 3, self.size, self.size))

    def to(self, device: torch.device | str) -> "FileImages":
        """The same images, returned on another device."""
        return replace(self, device=str(resolve_device(device)))

    def split(self, count: int) -> Iterator[Tensor]:
        """All images, ``count`` at a time."""
        return (self[start : start + count] for start in range(0, len(self), count))

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Centre crops (B,3,size,size) of some rows.

        Raises:
            RetortError: a file is missing, unreadable, altered since it was indexed, or no image.
        """
        return self.read_rows(
            rows, lambda image, row: resize_and_centre_crop(image, self.size, self.crop)
        )

    def read_random_crops(self, rows: Tensor, seed: int, epoch: int) -> Tensor:
        """Random resized crops (B,3,size,size), each drawn from (seed, epoch, row)."""

        def crop_and_resize(image: Image.Image, row: int) -> np.ndarray:
            box = draw_crop_box(*image.size, make_generator(seed, "crop", epoch, row))
            side = (self.size, self.size)
            resized = image.resize(side, Image.Resampling.BICUBIC, box=box)
            return np.asarray(resized).transpose(2, 0, 1)

        return self.read_rows(rows, crop_and_resize)

    def read_rows(
        self, rows: slice | Tensor, transform: Callable[[Image.Image, int], np.ndarray]
    ) -> Tensor:
        """Images (B,3,size,size) uint8 of the rows: ``transform(image, row)`` of each, in order."""
        every = range(len(self))
        numbers = list(every[rows]) if isinstance(rows, slice) else rows.tolist()
        places = self.table.take(pa.array(numbers, pa.int64())).to_pylist()
        shape = (len(numbers), 3, self.size, self.size)
        made = allocate_on_host(shape, torch.uint8, self.device)
        pixels = made.numpy()

        def fill_row(i: int) -> None:
            pixels[i] = transform(
                decode_image(*self.read_bytes(places[i]), self.decode), numbers[i]
            )

        for _ in get_decoder_pool().map(fill_row, range(len(numbers))):
            pass
        return copy_to_device(made, self.device)

    def read_bytes(self, location: dict) -> tuple[bytes, str]:
        """The bytes of one image, and its name for error messages."""
        path, offset, size = self.root / location["file"], location["offset"], location["size"]
        where = f"{path} at byte {offset}" if offset else str(path)
        try:
            with explain_denied_reading(path), path.open("rb") as file:
                whole = os.fstat(file.fileno()).st_size
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise RetortError(f"{path}: cannot be read ({error.strerror}); {MOVED_HINT}") from error
        if len(data) < size or (not offset and whole != size):
            raise RetortError(
                f"{where}: {whole - offset} bytes, {size} when it was indexed; restore it, or "
                "change the data set's 'version'"
            )
        return data, where


def decode_image(data: bytes, where: str, decode: str = "plain") -> Image.Image:
    """The image in some bytes, as RGB; ``decode`` as in ``image_folder.convert_to_rgb``.

    Raises:
        RetortError: the bytes are no image, or a truncated one.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return convert_to_rgb(image, decode)
    except DECODE_ERRORS as error:
        raise RetortError(f"{where}: not a readable image ({error}); fetch it again") from error


def prefetch_parts(read: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """``read(part)`` for each part in order; the next ones are read while one is in use."""
    with ThreadPoolExecutor(PREFETCHED_PARTS, "batches") as pool:
        waiting = [pool.submit(read, part) for part in parts[:PREFETCHED_PARTS]]
        try:
            for following in range(PREFETCHED_PARTS, PREFETCHED_PARTS + len(parts)):
                ready = waiting.pop(0).result()
                if following < len(parts):
                    waiting.append(pool.submit(read, parts[following]))
                yield ready
        finally:
            for job in waiting:
                job.cancel()


def read_split(artefact: Artefact, name: str) -> Split:
    """A split of a data set whose images stay in their files.

    Raises:
        RetortError: the index is missing or altered, or the images' folder is missing.
    """
    about = artefact.manifest.facts["files"]
    table = pq.read_table(artefact.get_verified_path(f"{name}.parquet"))
    root = Path(about["root"])
    if len(table) and not root.exists():
        whose = f"the images of data set {artefact.manifest.name}"
        raise RetortError(f"{root}: is missing; it held {whose}; {MOVED_HINT}")
    decode = about.get("decode", "plain")
    images = FileImages(root, table, about["size"], about["crop"], decode=decode)
    labels = torch.from_numpy(table["label"].to_numpy().copy())
    return Split(images, labels, table["group"] if table["group"].null_count == 0 else None)
