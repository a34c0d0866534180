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

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle of a plain file
STORAGE_DTYPES = {
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
MODULE_STATE_KEYS = ("_parameters", "_buffers", "_modules")  # of a pickled nn.Module
PLAIN_CLASSES = {("collections", "OrderedDict"): OrderedDict, ("torch", "Size"): tuple}


class Placeholder:
    """Stands for any foreign class, function or instance: it accepts everything and does nothing.

    ``state`` is what the pickle would have set, ``entries`` what it would have put in by key.
    """

    def __new__(cls, *_: Any) -> "Placeholder":
        placeholder = object.__new__(cls)
        placeholder.state, placeholder.entries = None, {}
        return placeholder

    def __init__(self, *_: Any):
        """Drops its arguments."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def __call__(self, *_: Any) -> "Placeholder":
        return Placeholder()

    def append(self, _: Any) -> None:
        """Does nothing: foreign lists stay empty."""

    def extend(self, _: Any) -> None:
        """Does nothing, likewise."""

    def add(self, _: Any) -> None:
        """Does nothing: foreign sets stay empty."""


@dataclass
class Storage:
    """A run of numbers in a file, or in a record of an archive."""

    dtype: torch.dtype
    record_name: str
    byte_offset: int = 0
    byte_count: int = 0


@dataclass(frozen=True)
class TensorStub:
    """A tensor that is not read yet: a view of a storage, in numbers of ``dtype``."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class PickledCheckpoint:
    """An opened checkpoint: its content, stubs for tensors, and the names it would import."""

    path: Path
    content: Any = None
    foreign_names: set[str] = field(default_factory=set)
    storages: dict[str, Storage] = field(default_factory=dict)

    def read_tensor(self, stub: TensorStub) -> Tensor:
        """The tensor itself, contiguous.

        Raises:
            RetortError: it goes beyond the numbers in the file.
        """
        last = stub.offset + sum((n - 1) * s for n, s in zip(stub.shape, stub.stride, strict=True))
        empty = math.prod(stub.shape) == 0
        if min((stub.offset, *stub.shape, *stub.stride)) < 0 or (
            not empty and (last + 1) * stub.dtype.itemsize > stub.storage.byte_count
        ):
            raise RetortError(f"{self.path}: a tensor goes beyond its numbers; download it again")
        if empty:
            return torch.empty(stub.shape, dtype=stub.dtype)
        numbers = torch.frombuffer(self.read_storage_bytes(stub.storage), dtype=stub.dtype)
        view = numbers.as_strided(stub.shape, stub.stride, stub.offset)
        return view.clone(memory_format=torch.contiguous_format)

    def read_storage_bytes(self, storage: Storage) -> bytearray:
        """The bytes of a storage."""
        if storage.record_name:
            with zipfile.ZipFile(self.path) as archive:
                return bytearray(archive.read(storage.record_name))
        with self.path.open("rb") as file:
            file.seek(storage.byte_offset)
            return bytearray(file.read(storage.byte_count))


class SafeUnpickler(pickle.Unpickler):
    """Unpickles containers, numbers and texts; all else is a stub or a placeholder."""

    def __init__(
        self, file: BinaryIO, checkpoint: PickledCheckpoint, archive: zipfile.ZipFile | None = None
    ):
        super().__init__(file, encoding="utf-8", errors="replace")
        self.checkpoint, self.archive = checkpoint, archive

    def find_class(self, module: str, name: str) -> Any:
        """The object behind a name that tensors need; a placeholder for every other name."""
        if (module, name) in PLAIN_CLASSES:
            return PLAIN_CLASSES[module, name]
        if module in ("torch", "torch.storage") and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module in ("torch._utils", "torch._tensor") and name in REBUILD_FUNCTIONS:
            return RebuildFunction(REBUILD_FUNCTIONS[name])
        self.checkpoint.foreign_names.add(f"{module}.{name}")
        return type(name, (Placeholder,), {})

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a tensor points to."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(view):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        known = self.checkpoint.storages
        if key not in known:
            known[key] = Storage(dtype, "", 0, count * dtype.itemsize)
            if self.archive is not None:
                known[key] = locate_storage(self.archive, str(key), dtype)
        return known[key]


class RebuildFunction:
    """Our stand-in for one of torch's functions that rebuild a tensor."""

    __slots__ = ("function",)

    def __init__(self, function: Any):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def rebuild_tensor(
    storage: Storage, offset: int, shape: tuple, stride: tuple, *_: Any
) -> TensorStub:
    """A tensor of its storage's type."""
    return TensorStub(storage, storage.dtype, offset, tuple(shape), tuple(stride))


def rebuild_typed_tensor(
    storage: Storage, offset: int, shape: tuple, stride: tuple, *rest: Any
) -> TensorStub:
    """A tensor with its own type over an untyped storage."""
    return TensorStub(storage, rest[2], offset, tuple(shape), tuple(stride))


def rebuild_parameter(data: Any, *_: Any) -> Any:
    """The tensor of a parameter."""
    return data


def rebuild_subclass(function: Any, _: Any, args: tuple, *__: Any) -> Any:
    """The plain tensor of a tensor subclass."""
    return function(*args) if isinstance(function, RebuildFunction) else Placeholder()


REBUILD_FUNCTIONS = {
    "_rebuild_tensor": rebuild_tensor,
    "_rebuild_tensor_v2": rebuild_tensor,
    "_rebuild_tensor_v3": rebuild_typed_tensor,
    "_rebuild_parameter": rebuild_parameter,
    "_rebuild_parameter_with_state": rebuild_parameter,
    "_rebuild_from_type_v2": rebuild_subclass,
}


def locate_storage(archive: zipfile.ZipFile, key: str, dtype: torch.dtype) -> Storage:
    """A storage of an archive, found by its key."""
    folder = archive.namelist()[0].partition("/")[0]
    entry = archive.getinfo(f"{folder}/data/{key}")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError("a compressed tensor")
    return Storage(dtype, entry.filename, 0, entry.file_size)


UNREADABLE_ERRORS = (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, KeyError, ValueError)
UNREADABLE_ERRORS += (TypeError, AttributeError, IndexError, RecursionError, OverflowError)


def open_checkpoint(path: Path) -> PickledCheckpoint:
    """A checkpoint's content, read without running any of it.

    Raises:
        RetortError: it is no pickled checkpoint, is cut off, or is of another byte order.
    """
    checkpoint = PickledCheckpoint(path)
    try:
        if zipfile.is_zipfile(path):
            read_archive(path, checkpoint)
        else:
            read_legacy_file(path, checkpoint)
    except UNREADABLE_ERRORS as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise RetortError(
            f"{path}: is no checkpoint that torch.save or torch.jit.save wrote, or is cut off "
            f"({reason}); download it again from its source"
        ) from error
    return checkpoint


def read_archive(path: Path, checkpoint: PickledCheckpoint) -> None:
    """Reads an archive of torch.save or torch.jit.save into ``checkpoint``."""
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        order = f"{folder}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise pickle.UnpicklingError("big-endian numbers")
        data = io.BytesIO(archive.read(f"{folder}/data.pkl"))
        checkpoint.content = SafeUnpickler(data, checkpoint, archive).load()


def read_legacy_file(path: Path, checkpoint: PickledCheckpoint) -> None:
    """Reads a file of torch before 1.6: three header pickles, one of content, then the numbers."""
    with path.open("rb") as file:

        def load_next() -> Any:
            return SafeUnpickler(file, checkpoint).load()

        if load_next() != MAGIC_NUMBER:
            raise pickle.UnpicklingError("no magic number")
        if load_next() != 1001 or not load_next()["little_endian"]:
            raise pickle.UnpicklingError("another protocol, or big-endian numbers")
        checkpoint.content = load_next()
        end = path.stat().st_size
        for key in load_next():
            storage, count = checkpoint.storages[key], int.from_bytes(file.read(8), "little")
            storage.byte_offset = file.tell()
            whole = storage.byte_count == count * storage.dtype.itemsize
            if not whole or file.tell() + storage.byte_count > end:
                raise EOFError("the numbers end too early")
            file.seek(storage.byte_count, io.SEEK_CUR)


def iterate_tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, TensorStub]]:
    """Every tensor below a value, under the dotted name that ``state_dict`` would give it."""
    if isinstance(value, TensorStub):
        yield prefix.removesuffix("."), value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(name, str):
                yield from iterate_tensors(inner, f"{prefix}{name}.")
    elif isinstance(value, Placeholder):
        yield from iterate_tensors(value.entries, prefix)
        state = value.state if isinstance(value.state, Mapping) else {}
        parts = [state[part] for part in MODULE_STATE_KEYS if part in state]
        for part in parts or [state]:
            yield from iterate_tensors(part, prefix)


def read_torchscript_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by name; its code is not read."""
    pickled = open_checkpoint(path)
    return {name: pickled.read_tensor(stub) for name, stub in iterate_tensors(pickled.content)}
