"""Verb `import`: the tensors out of a checkpoint that holds more."""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pipeline.errors import RetortError
from pipeline.models.pretrained.checkpoint_files import is_torchscript, read_file_header
from pipeline.models.pretrained.safe_unpickle import (
    PickledCheckpoint,
    Placeholder,
    iterate_tensors,
    open_checkpoint,
)
from pipeline.models.pretrained.weight_sets import (
    WRAPPER_KEYS,
    format_names,
    get_entries,
    take_part,
)
from pipeline.store.artefact import compute_sha256, write_atomically

log = logging.getLogger("retort")


def run_verb(options: argparse.Namespace) -> None:
    """Write the tensors of ``options.file`` to ``options.out`` and print what was left behind.

    Raises:
        RetortError: the file is no checkpoint or not the one that was meant, or holds no tensors.
    """
    path, out = options.file, options.out
    if out.suffix != ".safetensors":
        raise RetortError(f"{out}: is written as safetensors; let its name end in .safetensors")
    start = read_file_header(path, "name the file to import")
    if start[8:9] == b"{":
        raise RetortError(f"{path}: is a safetensors file already; name it as it is")
    check_sha256(path, options.sha256)
    pickled = open_checkpoint(path)
    taken, value = choose_part(pickled, options.take)
    tensors = {name: pickled.read_tensor(stub) for name, stub in iterate_tensors(value)}
    if not tensors:
        raise RetortError(f"{path}: holds no tensors by name; --take names the part that does")
    with write_atomically(out) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", "imported": compute_sha256(path)})
    size = sum(tensor.nbytes for tensor in tensors.values()) / 2**20
    print(f"kept     {len(tensors)} tensors, {size:.1f} MB, of {taken or 'the whole file'}")
    print(f"dropped  {format_names(list_dropped(pickled.content, taken, value))}")
    print(f"not run  {format_names(sorted(pickled.foreign_names))}")
    print(f"sha256   {compute_sha256(out)}  {out}")


def check_sha256(path: Path, declared_sha256: str | None) -> None:
    """Raise if the file is another than declared; a TorchScript archive must be declared."""
    if declared_sha256 is None:
        if is_torchscript(path):
            raise RetortError(
                f"{path}: is a TorchScript archive, which is code; name the one you trust with "
                "--sha256"
            )
        return
    if (found := compute_sha256(path)) != declared_sha256.lower():
        raise RetortError(
            f"{path}: sha256 is {found}, expected {declared_sha256}; download it again"
        )


def choose_part(pickled: PickledCheckpoint, part_name: str | None) -> tuple[str, Any]:
    """The part of a checkpoint whose tensors are kept, and its dotted name.

    Raises:
        RetortError: there is no part of the name that was asked for.
    """
    value, names = pickled.content, []
    if part_name:
        return part_name, take_part(value, part_name, f"{pickled.path}: --take {part_name}")
    while isinstance(value, Mapping):
        name = next(
            (n for n in WRAPPER_KEYS if isinstance(value.get(n), Mapping | Placeholder)), None
        )
        if name is None:
            break
        value = value[name]
        names.append(name)
    return ".".join(names), value


def list_dropped(root: Any, taken: str, value: Any) -> list[str]:
    """Names at the top of a file that were not kept, and those inside the kept part."""
    top = [str(n) for n in get_entries(root) if n != taken.partition(".")[0]] if taken else []
    kept = {name.partition(".")[0] for name, _ in iterate_tensors(value)}
    whole = isinstance(value, Mapping)
    return top + [str(n) for n in value if str(n).partition(".")[0] not in kept] if whole else top
