"""`python -m pipeline import`: the tensors out of a checkpoint that holds more."""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pipeline.errors import RetortError
from pipeline.models.pretrained.checkpoint_files import WRAPPERS, beginning, is_script
from pipeline.models.pretrained.safe_unpickle import Inert, Pickled, opened, tensors_in
from pipeline.store.artifact import replacing, sha256_of

SHOWN = 12  # names listed at most

log = logging.getLogger("retort")


def show(options: argparse.Namespace) -> None:
    """Write the tensors of ``options.file`` to ``options.out`` and print what was left behind.

    Raises:
        RetortError: the file is no checkpoint or not the one that was meant, or holds no tensors.
    """
    path, out = options.file, options.out
    if out.suffix != ".safetensors":
        raise RetortError(f"{out}: is written as safetensors; let its name end in .safetensors")
    start = beginning(path)
    if start[8:9] == b"{":
        raise RetortError(f"{path}: is a safetensors file already; name it as it is")
    check_sum(path, options.sha256)
    pickled = opened(path)
    taken, value = chosen(pickled, options.take)
    tensors = {name: pickled.tensor(stub) for name, stub in tensors_in(value)}
    if not tensors:
        raise RetortError(f"{path}: holds no tensors by name; --take names the part that does")
    with replacing(out) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", "imported": sha256_of(path)})
    size = sum(tensor.nbytes for tensor in tensors.values()) / 2**20
    print(f"kept     {len(tensors)} tensors, {size:.1f} MB, of {taken or 'the whole file'}")
    print(f"dropped  {listed(dropped(pickled.root, taken, value))}")
    print(f"not run  {listed(sorted(pickled.foreign))}")
    print(f"sha256   {sha256_of(out)}  {out}")


def check_sum(path: Path, declared: str | None) -> None:
    """Raise if the file is another than declared; a TorchScript archive must be declared."""
    if declared is None:
        if is_script(path):
            raise RetortError(
                f"{path}: is a TorchScript archive, which is code; name the one you trust with "
                "--sha256"
            )
        return
    if (found := sha256_of(path)) != declared.lower():
        raise RetortError(f"{path}: sha256 is {found}, expected {declared}; download it again")


def chosen(pickled: Pickled, take: str | None) -> tuple[str, Any]:
    """The part of a checkpoint whose tensors are kept, and its dotted name.

    Raises:
        RetortError: there is no part of the name that was asked for.
    """
    value, names = pickled.root, []
    for name in take.split(".") if take else ():
        inside = contents(value)
        if name not in inside:
            raise RetortError(
                f"{pickled.path}: --take {take}: has no '{name}'; it has {listed(list(inside))}"
            )
        value = inside[name]
        names.append(name)
    while not take and isinstance(value, Mapping):
        name = next((n for n in WRAPPERS if isinstance(value.get(n), Mapping | Inert)), None)
        if name is None:
            break
        value = value[name]
        names.append(name)
    return ".".join(names), value


def contents(value: Any) -> Mapping[str, Any]:
    """What a mapping or placeholder holds by name."""
    if isinstance(value, Inert):
        value = value.entries or value.state
    return value if isinstance(value, Mapping) else {}


def dropped(root: Any, taken: str, value: Any) -> list[str]:
    """Names at the top of a file that were not kept, and those inside the kept part."""
    top = [str(n) for n in contents(root) if n != taken.partition(".")[0]] if taken else []
    kept = {name.partition(".")[0] for name, _ in tensors_in(value)}
    whole = isinstance(value, Mapping)
    return top + [str(n) for n in value if str(n).partition(".")[0] not in kept] if whole else top


def listed(names: list[str]) -> str:
    """Names in a line, the first dozen."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) + more) or "nothing"
