"""A foreign VQGAN's tensors under our names, its architecture, and the network with both.

This module is part of the stage `pipeline.stages.pretrained_discretizer`: a change that moves
numbers must raise REVISION there.
"""

from dataclasses import dataclass

import torch

from pipeline.errors import RetortError
from pipeline.models.pretrained.checkpoint_files import StateDict
from pipeline.models.pretrained.state_dict_match import (
    check_exact_match,
    drop_prefixed_tensors,
    strip_common_prefixes,
)
from pipeline.models.pretrained.vqgan_config import (
    GUMBEL_MESSAGE,
    GUMBEL_PREFIXES,
    infer_architecture,
)
from pipeline.models.vqgan import VQGAN, VQGANArchitecture

DROPPED_PREFIXES = (
    "loss.",
    "model_ema.",
)  # the losses' networks, and the shadow of a moving average
FIRST_STAGE_PREFIX = (
    "first_stage_model."  # prefix of the VQGAN in a complete latent-diffusion model
)
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "vqgan.", "model.")


@dataclass(frozen=True)
class ForeignVQGAN:
    """A VQGAN from a file.

    Attributes:
        model: the network with the file's weights.
        fields: its architecture as plain values.
        left_out: names of the file's unused tensors.
    """

    model: VQGAN
    fields: dict
    left_out: list[str]


def assemble_vqgan(state: StateDict, stated_fields: dict | None, where: str) -> ForeignVQGAN:
    """The VQGAN of a file's tensors; ``stated_fields`` is its architecture, None to infer it.

    Raises:
        RetortError: the tensors are those of no such VQGAN. The message begins with ``where``.
    """
    state, left_out = extract_vqgan_state(state)
    if any(name.startswith(GUMBEL_PREFIXES) for name in state):
        raise RetortError(f"{where}: {GUMBEL_MESSAGE}")
    fields = infer_architecture(state, where) if stated_fields is None else stated_fields
    model = build_vqgan(VQGANArchitecture(**fields), state, where, stated_fields is not None)
    return ForeignVQGAN(model, fields, left_out)


def extract_vqgan_state(state: StateDict) -> tuple[StateDict, list[str]]:
    """A file's VQGAN under our names, and the names of its unused tensors.

    Our names are those of latent-diffusion without wrappers and losses. Of a complete diffusion
    model only the first stage is taken.
    """
    state = strip_common_prefixes(state, WRAPPER_PREFIXES)
    if any(name.startswith(FIRST_STAGE_PREFIX) for name in state):
        left = [name for name in state if not name.startswith(FIRST_STAGE_PREFIX)]
        inside = {
            n.removeprefix(FIRST_STAGE_PREFIX): v
            for n, v in state.items()
            if n.startswith(FIRST_STAGE_PREFIX)
        }
        kept, more = drop_prefixed_tensors(inside, DROPPED_PREFIXES)
        return kept, left + more
    return drop_prefixed_tensors(state, DROPPED_PREFIXES)


def build_vqgan(
    architecture: VQGANArchitecture, state: StateDict, where: str, is_architecture_given: bool
) -> VQGAN:
    """The network with a file's weights; it allocates no memory beside them.

    Raises:
        RetortError: names the first tensor that is missing, superfluous or of another shape.
    """
    with torch.device("meta"):
        model = VQGAN(architecture)
    own = "is 'config' the one that this file was trained with?"
    remedy = own if is_architecture_given else "give the YAML that it was trained with as 'config'"
    weights = check_exact_match(model.state_dict(), state, where, remedy)
    model.load_state_dict({n: v.float() for n, v in weights.items()}, assign=True)
    return model.eval()
