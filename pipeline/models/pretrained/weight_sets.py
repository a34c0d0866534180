"""Which of a checkpoint's sets of weights is meant: its weights, a moving average, another network.

This module is part of `checkpoint_files`: a change that takes other weights must raise REVISION
there. Tensors may be on the meta device, or stubs that are not read yet.
"""

import logging
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import COMMAND, RetortError
from pipeline.models.pretrained.safe_unpickle import Placeholder, TensorStub

StateDict = dict[str, Tensor]
FitCheck = Callable[[StateDict], object]  # raises RetortError if weights do not fit

WRAPPER_KEYS = ("state_dict", "model_state_dict", "model", "net")  # where files keep the weights
MAX_DEPTH = 5  # dicts within dicts that are looked into; a file's may hold themselves
MAX_PREFIXES = 8  # first names up to which a flat set may hold several networks
NAMES_LISTED = 12  # names listed at most

log = logging.getLogger("retort")


def list_weight_sets(content: object, prefix: str = "") -> dict[str, StateDict]:
    """The sets of tensors in a file by dotted name; a file that is one set has the name ``""``.

    A set is a mapping of names to nothing but tensors, alone or in dicts that training scripts
    wrap it in.
    """
    if not isinstance(content, Mapping) or prefix.count(".") > MAX_DEPTH:
        return {}
    found: dict[str, StateDict] = {}
    for name, inner in content.items():
        if isinstance(name, str) and isinstance(inner, Mapping):
            found |= list_weight_sets(inner, f"{prefix}{name}.")
    is_set = content and all(
        isinstance(name, str) and isinstance(value, Tensor | TensorStub)
        for name, value in content.items()
    )
    return found or ({prefix.removesuffix("."): dict(content)} if is_set else {})


def split_by_first_name(name: str, weights: StateDict) -> dict[str, StateDict]:
    """The parts of a flat set such as `student.…` and `teacher.…`; empty if it has none."""
    firsts = dict.fromkeys(inner.partition(".")[0] for inner in weights)
    if not 1 < len(firsts) <= MAX_PREFIXES:
        return {}
    return {
        ".".join(filter(None, (name, first))): {
            inner.removeprefix(f"{first}."): value
            for inner, value in weights.items()
            if inner.startswith(f"{first}.")
        }
        for first in firsts
    }


def take_part(content: object, part: str, error_prefix: str) -> Any:
    """The part of a file at a dotted name; a name may also be the first of a flat set's names.

    Raises:
        RetortError: there is none. The message begins with ``error_prefix``.
    """
    for name in part.split("."):
        inside = get_entries(content)
        flat = {
            inner.removeprefix(f"{name}."): value
            for inner, value in inside.items()
            if isinstance(inner, str) and inner.startswith(f"{name}.")
        }
        if name not in inside and not flat:
            raise RetortError(
                f"{error_prefix}: has no '{name}'; it has {format_names(list(inside))}"
            )
        content = inside.get(name, flat)
    return content


def get_entries(value: Any) -> Mapping[str, Any]:
    """What a mapping or placeholder holds by name."""
    if isinstance(value, Placeholder):
        value = value.entries or value.state
    return value if isinstance(value, Mapping) else {}


def format_names(names: list[str]) -> str:
    """Names in a line, the first dozen."""
    more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
    return (", ".join(map(str, names[:NAMES_LISTED])) + more) or "nothing"


def find_fitting_set(content: object, check: FitCheck, where: str) -> str | None:
    """The name of the only set of weights that passes ``check``; None where there is no choice.

    There is none to make where a file has one set, or none that fits: then the caller's own check
    says what is wrong.

    Raises:
        RetortError: several fit, and nobody said which to take.
    """
    sets = list_weight_sets(content)
    fitting = [name for name, weights in sets.items() if fits(weights, check)]
    if not fitting:
        for name, weights in sets.items():
            parts = split_by_first_name(name, weights)
            fitting += [part for part, inner in parts.items() if fits(inner, check)]
        sets = {**sets, **dict.fromkeys(fitting, {})}
    if len(fitting) > 1:
        raise RetortError(
            f"{where}: holds {len(fitting)} sets of weights that fit, {format_names(fitting)}; "
            f"choose one with 'take: {fitting[-1]}' beside its path"
        )
    if not fitting or len(sets) == 1:
        return None
    log.info("%s: takes '%s', the only set of weights in it that fits", where, fitting[0])
    return fitting[0]


def fits(weights: StateDict, check: FitCheck) -> bool:
    """Whether weights pass a check by names and shapes alone."""
    try:
        check(strip_values(weights))
    except RetortError:
        return False
    return True


def strip_values(weights: Mapping[str, Tensor | TensorStub]) -> StateDict:
    """The same names and shapes on the meta device."""
    return {name: torch.empty(tuple(value.shape), device="meta") for name, value in weights.items()}


def describe_import(path: Path, content: object, sha256: str) -> str:
    """The command line that extracts a file's tensors, with everything filled in."""
    inside = get_entries(content)
    wrapped = [name for name in WRAPPER_KEYS if isinstance(inside.get(name), Mapping | Placeholder)]
    names = wrapped[:1] or [name for name in list_weight_sets(content) if name][:1]
    suffix = "-tensors.safetensors" if path.suffix == ".safetensors" else ".safetensors"
    words = [COMMAND, "import", str(path), str(path.with_suffix("")) + suffix]
    words += ["--take", names[0]] if names else []
    return shlex.join([*words, "--sha256", sha256])
