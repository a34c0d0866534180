"""What makes the host wait for an accelerator, found on a CPU.

Python's calls are seen by their names; what torch's own code calls, by its operators. A copy
between devices cannot be seen where there is one device. So every ``.cpu()`` counts, every ``.to``
of the package with a device that is not `copy_to_device`'s, and every tensor of the host's numbers.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READING = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__"}
READING |= {"__array__", "__contains__", "is_nonzero", "equal", "allclose"}
SHAPED_BY_VALUES = {"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive"}
SHAPED_BY_VALUES |= {"bincount", "_unique2", "unique_dim"}
COPYING = {"tensor", "as_tensor", "new_tensor", "asarray"}
PINNED_COPIES = "core/devices/placement.py"
OPERATORS = {"_local_scalar_dense", "is_nonzero", "equal"} | SHAPED_BY_VALUES
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


def place_of_call() -> str:
    """The innermost line of the package that led here, else of anything; empty if it may be.

    An optimiser that is not fused counts its steps on the host.
    """
    frames = [f for f in traceback.extract_stack() if f.filename != __file__]
    if any("/torch/optim/" in f.filename for f in frames[-4:]):
        return ""
    own = [f for f in frames if "/pipeline/" in f.filename] or frames
    return f"{own[-1].filename.rpartition('/pipeline/')[2]}:{own[-1].lineno}"


class FunctionReads(TorchFunctionMode):
    """Calls from Python."""

    def __init__(self, found: list[str]):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        given = (*args[1:], *(kwargs or {}).values())
        moves = name == "to" and any(isinstance(a, torch.device | str) for a in given)
        moves = moves and "/pipeline/" in traceback.extract_stack(limit=2)[0].filename
        seen = moves or name in READING | SHAPED_BY_VALUES | COPYING
        if seen and (place := place_of_call()) and not (moves and PINNED_COPIES in place):
            self.found.append(f"{name} at {place}")
        before, made = len(self.found), func(*args, **(kwargs or {}))
        if name == "one_hot":  # it reads on a CPU alone; a GPU's own kernel checks the labels
            del self.found[before:]
        return made


class OperatorReads(TorchDispatchMode):
    """Operators, whoever calls them."""

    def __init__(self, found: list[str]):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        by_mask = name in INDEXING and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if (name in OPERATORS or by_mask) and (place := place_of_call()):
            self.found.append(f"{name} at {place}")
        return func(*args, **(kwargs or {}))


@contextmanager
def noted(found: list[str]) -> Iterator[None]:
    """Within the block, whatever would wait is added to ``found``: its name and the line."""
    with FunctionReads(found), OperatorReads(found):
        yield
