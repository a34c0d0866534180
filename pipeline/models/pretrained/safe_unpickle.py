"""Pickled checkpoints read without running anything in them: foreign names become placeholders.

Three forms are read: torch's archives since 1.6, TorchScript's, and the plain files before them. A
tensor is only noted where it is met, and read when it is asked for.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pipeline.errors import RetortError

REVISION = 1

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a plain file
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
PARTS = ("_parameters", "_buffers", "_modules")  # where a pickled nn.Module keeps its own


class Inert:
    """A placeholder for any foreign class, function or instance: it takes everything, does nothing.

    ``state`` is what the pickle would have set, ``entries`` what it would have put in by key.
    """

    def __new__(cls, *_: Any) -> "Inert":
        inert = object.__new__(cls)
        inert.state, inert.entries = None, {}
        return inert

    def __init__(self, *_: Any):
        """Whatever it was made with is dropped."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def __call__(self, *_: Any) -> "Inert":
        return Inert()

    def append(self, _: Any) -> None:
        """Lists that are foreign stay empty."""

    def extend(self, _: Any) -> None:
        """Likewise."""

    def add(self, _: Any) -> None:
        """Likewise sets."""


@dataclass
class Storage:
    """A run of numbers in a file: ``start`` and ``size`` in bytes, maybe in a ``record``."""

    dtype: torch.dtype
    record: str
    start: int = 0
    size: int = 0


@dataclass(frozen=True)
class Stub:
    """A tensor that is not read yet: a view of a storage, in numbers of ``dtype``."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class Pickled:
    """An opened checkpoint: its content, stubs for tensors, and the names it would import."""

    path: Path
    root: Any = None
    foreign: set[str] = field(default_factory=set)
    storages: dict[str, Storage] = field(default_factory=dict)

    def tensor(self, stub: Stub) -> Tensor:
        """The tensor itself, contiguous.

        Raises:
            RetortError: it goes beyond the numbers in the file.
        """
        width = stub.dtype.itemsize
        last = stub.offset + sum((n - 1) * s for n, s in zip(stub.shape, stub.stride, strict=True))
        empty = math.prod(stub.shape) == 0
        if min((stub.offset, *stub.shape, *stub.stride)) < 0 or (
            not empty and (last + 1) * width > stub.storage.size
        ):
            raise RetortError(f"{self.path}: a tensor goes beyond its numbers; download it again")
        if empty:
            return torch.empty(stub.shape, dtype=stub.dtype)
        numbers = torch.frombuffer(self.bytes_of(stub.storage), dtype=stub.dtype)
        view = numbers.as_strided(stub.shape, stub.stride, stub.offset)
        return view.clone(memory_format=torch.contiguous_format)

    def bytes_of(self, storage: Storage) -> bytearray:
        """The bytes of a storage."""
        if storage.record:
            with zipfile.ZipFile(self.path) as archive:
                return bytearray(archive.read(storage.record))
        with self.path.open("rb") as file:
            file.seek(storage.start)
            return bytearray(file.read(storage.size))


class Reader(pickle.Unpickler):
    """Unpickles containers, numbers and texts; all else is a stub or a placeholder."""

    def __init__(self, file: BinaryIO, into: Pickled, archive: zipfile.ZipFile | None = None):
        super().__init__(file, encoding="utf-8", errors="replace")
        self.into, self.archive = into, archive

    def find_class(self, module: str, name: str) -> Any:
        """The few names that tensors are made of; a placeholder for every other."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch", "Size"):
            return tuple
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module in ("torch._utils", "torch._tensor") and name in REBUILDS:
            return Rebuild(REBUILDS[name])
        self.into.foreign.add(f"{module}.{name}")
        return type(name, (Inert,), {})

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a tensor points to."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(view):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        known = self.into.storages
        if key not in known:
            known[key] = Storage(dtype, "", 0, count * dtype.itemsize)
            if self.archive is not None:
                known[key] = recorded(self.archive, str(key), dtype)
        return known[key]


class Rebuild:
    """One of torch's functions that put a tensor together, as one of ours."""

    __slots__ = ("function",)

    def __init__(self, function: Any):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def plain(storage: Storage, offset: int, shape: tuple, stride: tuple, *_: Any) -> Stub:
    """A tensor of its storage's type."""
    return Stub(storage, storage.dtype, offset, tuple(shape), tuple(stride))


def typed(storage: Storage, offset: int, shape: tuple, stride: tuple, *rest: Any) -> Stub:
    """A tensor of a type of its own over untyped numbers."""
    return Stub(storage, rest[2], offset, tuple(shape), tuple(stride))


def parameter(data: Any, *_: Any) -> Any:
    """A parameter is its tensor."""
    return data


def subclass(function: Any, _: Any, args: tuple, *__: Any) -> Any:
    """A tensor of a subclass is the tensor."""
    return function(*args) if isinstance(function, Rebuild) else Inert()


REBUILDS = {
    "_rebuild_tensor": plain,
    "_rebuild_tensor_v2": plain,
    "_rebuild_tensor_v3": typed,
    "_rebuild_parameter": parameter,
    "_rebuild_parameter_with_state": parameter,
    "_rebuild_from_type_v2": subclass,
}


def recorded(archive: zipfile.ZipFile, key: str, dtype: torch.dtype) -> Storage:
    """A storage of an archive, found by its key."""
    folder = archive.namelist()[0].partition("/")[0]
    entry = archive.getinfo(f"{folder}/data/{key}")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError("a compressed tensor")
    return Storage(dtype, entry.filename, 0, entry.file_size)


def opened(path: Path) -> Pickled:
    """A checkpoint's content, with nothing of it run.

    Raises:
        RetortError: it is no pickled checkpoint, is cut off, or is of another byte order.
    """
    into = Pickled(path)
    try:
        if zipfile.is_zipfile(path):
            read_archive(path, into)
        else:
            read_plain(path, into)
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise unreadable(path, error) from error
    except (TypeError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        raise unreadable(path, error) from error
    return into


def unreadable(path: Path, error: Exception) -> RetortError:
    """The complaint about a file that is no checkpoint, or a broken one."""
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return RetortError(
        f"{path}: is no checkpoint that torch.save or torch.jit.save wrote, or is cut off "
        f"({reason}); download it again from its source"
    )


def read_archive(path: Path, into: Pickled) -> None:
    """An archive of torch.save or torch.jit.save."""
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        order = f"{folder}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise pickle.UnpicklingError("big-endian numbers")
        into.root = Reader(io.BytesIO(archive.read(f"{folder}/data.pkl")), into, archive).load()


def read_plain(path: Path, into: Pickled) -> None:
    """A file of torch before 1.6: three pickles of form, one of content, then the numbers."""
    with path.open("rb") as file:
        if Reader(file, into).load() != MAGIC:
            raise pickle.UnpicklingError("no magic number")
        if Reader(file, into).load() != 1001 or not Reader(file, into).load()["little_endian"]:
            raise pickle.UnpicklingError("another protocol, or big-endian numbers")
        into.root = Reader(file, into).load()
        end = path.stat().st_size
        for key in Reader(file, into).load():
            count = int.from_bytes(file.read(8), "little")
            storage = into.storages[key]
            storage.start = file.tell()
            if storage.size != count * storage.dtype.itemsize or file.tell() + storage.size > end:
                raise EOFError("the numbers end too early")
            file.seek(storage.size, io.SEEK_CUR)


def tensors_in(value: Any, prefix: str = "") -> Iterator[tuple[str, Stub]]:
    """Every tensor below a value, under the dotted name that ``state_dict`` would give it."""
    if isinstance(value, Stub):
        yield prefix.removesuffix("."), value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(name, str):
                yield from tensors_in(inner, f"{prefix}{name}.")
    elif isinstance(value, Inert):
        yield from tensors_in(value.entries, prefix)
        state = value.state if isinstance(value.state, Mapping) else {}
        parts = [state[part] for part in PARTS if part in state]
        for part in parts or [state]:
            yield from tensors_in(part, prefix)


def script(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by name; its code is not even looked at."""
    pickled = opened(path)
    return {name: pickled.tensor(stub) for name, stub in tensors_in(pickled.root)}
