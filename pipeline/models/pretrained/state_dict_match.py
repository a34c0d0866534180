"""Foreign tensors checked against a model's own: names, shapes and finite values."""

from collections.abc import Collection, Mapping

from torch import Tensor

from pipeline.errors import RetortError
from pipeline.models.pretrained.checkpoint_files import StateDict

REVISION = 1


def check_exact_match(
    own_state: Mapping[str, Tensor], state: StateDict, error_prefix: str, remedy: str
) -> StateDict:
    """``state``, if it has exactly the names and shapes of ``own_state`` and only finite values.

    ``own_state`` may be on the meta device, and so may ``state``, whose values are then unchecked.

    Raises:
        RetortError: the first of ``own_state`` that is missing or of another shape, the first name
            that is in no such model, or a value that is not finite. The message begins with
            ``error_prefix`` and ends with ``remedy``.
    """
    for name, own_tensor in own_state.items():
        if name not in state:
            lacking = sum(n not in state for n in own_state)
            raise RetortError(
                f"{error_prefix}: '{name}' is missing, {lacking} of {len(own_state)} in all; "
                f"{remedy}"
            )
        if state[name].shape != own_tensor.shape:
            found, expected = list(state[name].shape), list(own_tensor.shape)
            raise RetortError(
                f"{error_prefix}: '{name}' is {found}, the model wants {expected}; {remedy}"
            )
        if not state[name].is_meta and not state[name].isfinite().all():
            raise RetortError(
                f"{error_prefix}: '{name}' holds values that are not finite; {remedy}"
            )
    if strange := [name for name in state if name not in own_state]:
        raise RetortError(f"{error_prefix}: '{strange[0]}' is in no such model; {remedy}")
    return state


def drop_prefixed_tensors(
    state: StateDict, prefixes: Collection[str]
) -> tuple[StateDict, list[str]]:
    """Tensors whose name begins with none of ``prefixes``, and the names of the others."""
    dropped_names = [name for name in state if name.startswith(tuple(prefixes))]
    return {
        name: value for name, value in state.items() if name not in dropped_names
    }, dropped_names


def strip_common_prefixes(state: StateDict, prefixes: Collection[str]) -> StateDict:
    """``state`` without the prefixes that all its names share, such as DataParallel's."""
    for prefix in prefixes:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
