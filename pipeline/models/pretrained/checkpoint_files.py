"""Checkpoints from elsewhere: read safely, their names mapped to those of our networks."""

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import RetortError, explain_denied_reading
from pipeline.models.classifier import Classifier
from pipeline.models.pretrained import safe_unpickle
from pipeline.models.pretrained.weight_sets import (
    WRAPPER_KEYS,
    FitCheck,
    StateDict,
    describe_import,
    find_fitting_set,
    take_part,
)
from pipeline.store.artefact import compute_sha256

REVISION = 1

HTML_PATTERN = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|!--|html|head|body|title|\?xml)", re.I
)
LFS_PREFIX = b"version https://git-lfs"
WRAPPER_PREFIXES = {
    "module",
    "_orig_mod",
    "model",
    "net",
    "network",
    "1",
}  # 1: after a normalising layer
IGNORED_MODULES = {
    "sub_block1",
    "attacker",
}  # TRADES' unused stage; the second copy in `robustness` files
LAYER_ALIASES = {  # a first or inner name elsewhere -> ours, tried where ours is not found
    "features": "layers",
    "classifier": "linear",
    "fc": "linear",
    "downsample": "shortcut",
}
STATISTIC_BUFFERS = {"mean": "mean", "mu": "mean", "new_mean": "mean"} | {
    "std": "std",
    "sigma": "std",
    "new_std": "std",
}
DOWNLOAD_REMEDY = "download it again from its source, and check checkpoint.path"


def read_state_dict(path: Path, sha256: str) -> StateDict:
    """The tensors of a checkpoint file (torch's or safetensors), by their names in the file.

    Of several sets of weights the usual one is taken.

    Raises:
        RetortError: missing, a web page in its place, another sum than ``sha256``, cut off, or a
            pickle that holds more than tensors.
    """
    return unwrap_state_dict(path, read_content(path, sha256))


def read_fitting_weights(
    path: Path, sha256: str, take: str | None, check: FitCheck
) -> tuple[str, StateDict]:
    """The set of weights that ``take`` names or, without it, the only one that passes ``check``.

    Returns: the set's name in the file, empty for the usual or only one; and its tensors. ``check``
    gets tensors without values and raises RetortError if they do not fit.

    Raises:
        RetortError: as in ``read_state_dict``; or the file has no such set, or several that fit.
    """
    return choose_weights(path, read_content(path, sha256), take, check)


def choose_weights(
    path: Path, content: object, take: str | None, check: FitCheck
) -> tuple[str, StateDict]:
    """Run ``read_fitting_weights`` on a file's content, whose tensors may have no values."""
    name = take or find_fitting_set(content, check, str(path))
    part = take_part(content, name, f"{path}: take: {name}") if name else content
    return name or "", unwrap_state_dict(path, part)


def read_content(path: Path, sha256: str) -> object:
    """What a file with the sum ``sha256`` holds, without running any code in it."""
    start = read_file_header(path)
    if (found := compute_sha256(path)) != sha256:
        raise RetortError(
            f"{path}: sha256 is {found}, expected {sha256}; {DOWNLOAD_REMEDY} and .sha256"
        )
    return load_content(path, is_safetensors=start[8:9] == b"{", sha256=sha256)


def read_file_header(path: Path, remedy: str = "set checkpoint.path to the file") -> bytes:
    """The first bytes of a checkpoint file; ``remedy`` says what to do where there is none.

    Raises:
        RetortError: missing, unreadable, or a web page or pointer in its place.
    """
    with explain_denied_reading(path):
        if not path.is_file():
            raise RetortError(f"{path}: no such checkpoint; {remedy}")
        with path.open("rb") as file:
            start = file.read(512)
    if HTML_PATTERN.match(start):
        raise RetortError(
            f"{path}: is an HTML page saved as a checkpoint (a log-in, quota or error page); "
            "open the address in a browser and download the file itself"
        )
    if start.startswith(LFS_PREFIX):
        raise RetortError(f"{path}: is a Git LFS pointer, not the file; fetch it with git lfs pull")
    return start


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: an archive with code, as OpenAI's CLIPs are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_content(path: Path, is_safetensors: bool, sha256: str) -> object:
    """What a file holds, without running any code in it."""
    try:
        if is_safetensors:
            return load_file(path)
        if is_torchscript(path):
            return safe_unpickle.read_torchscript_tensors(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RetortError(
            f"{path}: holds more than tensors, or is no checkpoint "
            f"({extract_first_sentence(error)}); {describe_import_remedy(path, sha256)}"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise RetortError(
            f"{path}: cannot be read ({extract_first_sentence(error)}); {DOWNLOAD_REMEDY}"
        ) from error


def describe_import_remedy(path: Path, sha256: str) -> str:
    """How to extract a file's tensors: the whole command line, if its content can be listed."""
    try:
        content = safe_unpickle.open_checkpoint(path).content
    except RetortError:
        return DOWNLOAD_REMEDY
    return (
        f"take its tensors out with '{describe_import(path, content, sha256)}', which runs none of "
        "its code, then name the new file and the sum that it prints"
    )


def extract_first_sentence(error: Exception) -> str:
    """The first sentence of a message that may be long."""
    return re.split(r"[\n]|\. ", str(error), maxsplit=1)[0]


def unwrap_state_dict(path: Path, state: object) -> StateDict:
    """The mapping of names to tensors, taken out of the dicts that training scripts wrap it in.

    Raises:
        RetortError: there is none.
    """
    while isinstance(state, Mapping):
        inner = next((state[k] for k in WRAPPER_KEYS if isinstance(state.get(k), Mapping)), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, Mapping) or not state:
        raise RetortError(f"{path}: holds no dict of tensors; save model.state_dict()")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise RetortError(
                f"{path}: '{name}' is {type(value).__name__}, no tensor; save model.state_dict()"
            )
    return dict(state)


def load_foreign_weights(model: Classifier, state: StateDict, error_prefix: str) -> list[str]:
    """Loads foreign weights into ``model``; a normalisation among them becomes mean and std.

    Wrappers' prefixes are removed, other usual names of layers become ours, known extras are left
    out. All else must fit by name and shape. Batch counters that old files lack keep their values.

    Returns: names in the file that were left out.

    Raises:
        RetortError: the first name that is unexpected, missing, given twice, of another shape, or
            not finite. The message begins with ``error_prefix``.
    """
    own = model.network.state_dict()
    weights, dropped = {}, []
    for name, value in state.items():
        target = map_to_own_name(name, own)
        if target in weights:
            raise RetortError(
                f"{error_prefix}: '{name}' and another name both mean '{target}'; drop one"
            )
        if target is not None:
            weights[target] = check_tensor(value, own[target], name, error_prefix)
        elif IGNORED_MODULES.intersection(name.split(".")):
            dropped.append(name)
        elif not take_statistics(model, name, value):
            raise RetortError(
                f"{error_prefix}: '{name}' is in no such model; is 'model' the right one?"
            )
    missing = [n for n in own if n not in weights and not n.endswith(".num_batches_tracked")]
    if missing:
        raise RetortError(
            f"{error_prefix}: '{missing[0]}' is missing, {len(missing)} of {len(own)} in all; is "
            f"'model' "
            "the right one, and the file complete?"
        )
    model.network.load_state_dict({**own, **weights})
    return dropped


def map_to_own_name(name: str, own_names: Iterable[str]) -> str | None:
    """The name in our network for a foreign name, or None if there is none."""
    parts = name.split(".")
    if IGNORED_MODULES.intersection(parts):
        return None
    outer_names = {first for first, *_ in (key.split(".") for key in own_names)}
    # a timm network is nested in one of ours
    outer_parts = [*outer_names] if len(outer_names) == 1 else []
    while parts:
        for variant in (parts, [LAYER_ALIASES.get(part, part) for part in parts]):
            for candidate in (variant, [*outer_parts, *variant]):
                if ".".join(candidate) in own_names:
                    return ".".join(candidate)
        if parts[0] not in WRAPPER_PREFIXES:
            return None
        parts = parts[1:]
    return None


def check_tensor(value: Tensor, own_tensor: Tensor, name: str, error_prefix: str) -> Tensor:
    """The tensor ``value``, if it has the shape of ours and finite values.

    Raises:
        RetortError: its shape differs, or a value is not finite.
    """
    if value.shape != own_tensor.shape:
        found, expected = (list(t.shape) for t in (value, own_tensor))
        raise RetortError(
            f"{error_prefix}: '{name}' is {found}, the model wants {expected}; do model and data "
            f"set's "
            "classes fit the file?"
        )
    if not value.is_meta and not value.isfinite().all():
        raise RetortError(
            f"{error_prefix}: '{name}' holds values that are not finite; {DOWNLOAD_REMEDY}"
        )
    return value


def take_statistics(model: Classifier, name: str, value: Tensor) -> bool:
    """Whether a name is a normaliser's mean or std, which is then copied into the model."""
    buffer = STATISTIC_BUFFERS.get(name.rpartition(".")[2])
    if buffer is None or value.numel() not in (1, model.mean.numel()):
        return False
    getattr(model, buffer).copy_(value.reshape(1, -1, 1, 1))
    return True
