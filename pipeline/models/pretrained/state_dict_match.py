"""Foreign tensors against a model's own: every name and shape must fit, and the first that does not
is named."""

from collections.abc import Collection, Mapping

from torch import Tensor

from pipeline.errors import RetortError
from pipeline.models.pretrained.checkpoint_files import State

REVISION = 1


def exactly(own: Mapping[str, Tensor], state: State, where: str, remedy: str) -> State:
    """``state``, if it has exactly the names and shapes of ``own`` and only finite values.

    ``own`` may be on the meta device.

    Raises:
        RetortError: the first of ``own`` that is missing or of another shape, the first name that
            is in no such model, or a value that is not finite. It begins with ``where`` and ends
            with ``remedy``.
    """
    for name, ours in own.items():
        if name not in state:
            lacking = sum(n not in state for n in own)
            raise RetortError(
                f"{where}: '{name}' is missing, {lacking} of {len(own)} in all; {remedy}"
            )
        if state[name].shape != ours.shape:
            found, expected = list(state[name].shape), list(ours.shape)
            raise RetortError(f"{where}: '{name}' is {found}, the model wants {expected}; {remedy}")
        if not state[name].isfinite().all():
            raise RetortError(f"{where}: '{name}' holds values that are not finite; {remedy}")
    if strange := [name for name in state if name not in own]:
        raise RetortError(f"{where}: '{strange[0]}' is in no such model; {remedy}")
    return state


def without(state: State, prefixes: Collection[str]) -> tuple[State, list[str]]:
    """Tensors whose name begins with none of ``prefixes``, and the names of the others."""
    left = [name for name in state if name.startswith(tuple(prefixes))]
    return {name: value for name, value in state.items() if name not in left}, left


def unprefixed(state: State, prefixes: Collection[str]) -> State:
    """Names without a prefix that all of them have, as wrappers such as DataParallel give it."""
    for prefix in prefixes:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
