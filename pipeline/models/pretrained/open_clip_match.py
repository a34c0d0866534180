"""An open_clip model's tensors under our names: the whole model, or its image tower and a head.

This module is part of the stage `pipeline.stages.open_clip_teacher`: a change that moves numbers
must raise REVISION there.
"""

import re

import torch
from open_clip.model import convert_to_custom_text_state_dict
from torch import nn

from pipeline.errors import RetortError
from pipeline.models.pretrained.checkpoint_files import StateDict
from pipeline.models.pretrained.state_dict_match import (
    check_exact_match,
    drop_prefixed_tensors,
    strip_common_prefixes,
)

WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
SETTING_NAMES = (
    "input_resolution",
    "context_length",
    "vocab_size",
)  # numbers that OpenAI's files hold
BUFFER_SUFFIXES = ("position_ids", "attn_mask")  # constants that models compute themselves
HEAD_PATTERN = re.compile(
    r"(?:.*\.)?(?:head|fc|classifier|classification_head|linear)\.(weight|bias)"
)
TOWER_PREFIX = "visual."


def match_model(
    state: StateDict, model: nn.Module, model_name: str, where: str
) -> tuple[StateDict, list[str]]:
    """A file's tensors under the names of ``model``, and the names of its unused tensors.

    Raises:
        RetortError: they do not fit. The message begins with ``where``.
    """
    state, left_out = rename_tensors(state, model)
    remedy = describe_remedy(model_name)
    return check_exact_match(model.state_dict(), state, where, remedy), left_out


def match_tuned_model(
    state: StateDict, tower: nn.Module, linear: nn.Module, model_name: str, where: str
) -> tuple[StateDict, StateDict, list[str]]:
    """A file's image tower and linear head under our names, and the names of its unused tensors.

    Raises:
        RetortError: one of them is missing or does not fit. The message begins with ``where``.
    """
    tower_state, head, left_out = split_tower_and_head(state, where)
    check_exact_match(tower.state_dict(), tower_state, where, describe_remedy(model_name))
    own = linear.state_dict()
    head.setdefault("bias", torch.zeros_like(own["bias"]))
    remedy = "is it a linear head over the data set's classes, on this tower?"
    return tower_state, check_exact_match(own, head, f"{where}: head", remedy), left_out


def describe_remedy(model_name: str) -> str:
    """The remedy for weights that do not fit the model."""
    return f"is open_clip.model '{model_name}' the right one, and the file a complete state_dict?"


def rename_tensors(state: StateDict, model: nn.Module) -> tuple[StateDict, list[str]]:
    """A file's tensors under the names of ``model``, and the names of its unused tensors.

    OpenAI's files hold three numbers beside the weights, traced files hold the text's mask, and old
    files hold position indices and no batch counters. Some models keep the text tower in a module
    of its own.
    """
    state, left = drop_prefixed_tensors(
        strip_common_prefixes(state, WRAPPER_PREFIXES), SETTING_NAMES
    )
    own = model.state_dict()
    made = [n for n in state if n.endswith(BUFFER_SUFFIXES) and n not in own]
    state = {name: value for name, value in state.items() if name not in made}
    if "positional_embedding" in state and "positional_embedding" not in own:
        state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in own and state[name].numel() == 1:
            state[name] = state[name].reshape(own[name].shape)
    counters = {n: v for n, v in own.items() if n.endswith(".num_batches_tracked")}
    return {**counters, **state}, left + made


def split_tower_and_head(state: StateDict, where: str) -> tuple[StateDict, StateDict, list[str]]:
    """A file's image tower and linear head, each without prefix, and the other names.

    Raises:
        RetortError: one of the two is missing.
    """
    tower: StateDict = {}
    head: StateDict = {}
    left_out = []
    for name, value in state.items():
        _, found, rest = name.partition(TOWER_PREFIX)
        if found:
            tower[rest] = value
        elif match := HEAD_PATTERN.fullmatch(name):
            head[match[1]] = value
        else:
            left_out.append(name)
    if not tower:
        raise RetortError(
            f"{where}: holds no image tower '{TOWER_PREFIX}…'; for a file of timm's give model: "
            "timm/<name> with checkpoint, not open_clip"
        )
    if "weight" not in head:
        raise RetortError(
            f"{where}: holds no linear head; name the fine-tuned file, or set head: zeroshot"
        )
    return tower, head, left_out
