"""A foreign VQGAN's architecture: from the YAML it was trained with, or from its tensors."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import RetortError, explain_denied_reading
from pipeline.models.pretrained.checkpoint_files import StateDict
from pipeline.models.vqgan import VQGANArchitecture

REVISION = 1

ASSUMED_SIDE = 256  # pixels for which a file without configuration is taken to be built
COPIED_FIELDS = ("ch", "ch_mult", "num_res_blocks", "attn_resolutions", "z_channels", "resolution")
FIXED_SETTINGS = {
    "double_z": False,
    "dropout": 0.0,
    "resamp_with_conv": True,
    "use_linear_attn": False,
}
GUMBEL_PREFIXES = ("quantize.embed.", "quantize.proj.")
GUMBEL_MESSAGE = (
    "is a Gumbel VQGAN, whose encoder chooses codes by logits and not by distance; name one that "
    "chooses the nearest code, such as latent-diffusion's vq-f8"
)


def read_architecture(path: Path) -> dict:
    """The architecture in a taming or latent-diffusion YAML, as ``VQGANArchitecture``'s fields.

    Raises:
        RetortError: no such file, no YAML of a VQGAN, or a VQGAN of a form that is not built here.
    """
    try:
        with explain_denied_reading(path):
            document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RetortError(f"{path}: cannot be read ({error.strerror}); correct its path") from error
    except yaml.YAMLError as error:
        raise RetortError(f"{path}: is not valid YAML; give the VQGAN's own file") from error
    model = document.get("model") if isinstance(document, Mapping) else None
    params = model.get("params") if isinstance(model, Mapping) else None
    ddconfig = params.get("ddconfig") if isinstance(params, Mapping) else None
    if not isinstance(ddconfig, Mapping) or not {"embed_dim", "n_embed"} <= params.keys():
        raise RetortError(
            f"{path}: has no model.params with embed_dim, n_embed and ddconfig; give the YAML that "
            "the VQGAN was trained with, or drop 'config' to go by the tensors' shapes"
        )
    if "gumbel" in str(model.get("target", "")).lower():
        raise RetortError(f"{path}: {GUMBEL_MESSAGE}")
    fields = translate_ddconfig(path, ddconfig)
    fields |= {"embed_dim": params["embed_dim"], "n_codes": params["n_embed"]}
    return complete_architecture_fields(fields, str(path))


def translate_ddconfig(path: Path, ddconfig: Mapping[str, Any]) -> dict:
    """``ddconfig`` as fields of ``VQGANArchitecture``.

    Raises:
        RetortError: a field is missing, or asks for what is not built here.
    """
    for name, wanted in FIXED_SETTINGS.items():
        if ddconfig.get(name, wanted) != wanted:
            raise RetortError(
                f"{path}: ddconfig.{name} is {ddconfig[name]}; only {wanted} is built here"
            )
    if lacking := [name for name in COPIED_FIELDS if name not in ddconfig]:
        raise RetortError(f"{path}: ddconfig has no '{lacking[0]}'; give the whole file")
    if ddconfig.get("out_ch", 3) != ddconfig.get("in_channels", 3):
        raise RetortError(f"{path}: ddconfig.out_ch is not in_channels; Q maps images to images")
    kind = ddconfig.get("attn_type", "vanilla")
    if kind not in ("vanilla", "none"):
        raise RetortError(
            f"{path}: ddconfig.attn_type is '{kind}'; vanilla and none are built here"
        )
    fields = {name: ddconfig[name] for name in COPIED_FIELDS} | {
        "in_channels": ddconfig.get("in_channels", 3)
    }
    if kind == "none":
        fields |= {"attn_resolutions": (), "mid_attention": False}
    return fields


def infer_architecture(state: StateDict, error_prefix: str) -> dict:
    """``VQGANArchitecture``'s fields, inferred from the names and shapes of tensors.

    Attention is placed by its level; the assumed side of 256 px changes nothing else.

    Raises:
        RetortError: the tensors are those of no VQGAN that is built here.
    """
    needed = ("encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "quant_conv")
    names = [f"{name}.weight" for name in (*needed, "quantize.embedding")]
    if lacking := [name for name in names if name not in state]:
        raise RetortError(
            f"{error_prefix}: has no '{lacking[0]}', so it is no VQGAN; name a taming or "
            f"latent-diffusion "
            "first-stage file"
        )
    first, last, decoder, joint, codes = (state[name].shape for name in names)
    if last[0] == 2 * decoder[1]:
        raise RetortError(f"{error_prefix}: is a KL autoencoder, without codebook; name a VQGAN")
    levels = count_numbered_names(state, r"encoder\.down\.(\d+)\.block\..*")
    blocks = count_numbered_names(state, r"encoder\.down\.0\.block\.(\d+)\..*")
    widths = [state[f"encoder.down.{i}.block.0.conv2.weight"].shape[0] for i in range(levels)]
    attention = {m[1] for n in state if (m := re.fullmatch(r"encoder\.down\.(\d+)\.attn\..*", n))}
    fields = {
        "ch": first[0],
        "ch_mult": tuple(width // first[0] for width in widths),
        "num_res_blocks": blocks,
        "attn_resolutions": tuple(ASSUMED_SIDE // 2 ** int(level) for level in sorted(attention)),
        "z_channels": decoder[1],
        "resolution": ASSUMED_SIDE,
        "in_channels": first[1],
        "embed_dim": joint[0],
        "n_codes": codes[0],
        "mid_attention": "encoder.mid.attn_1.q.weight" in state,
    }
    return complete_architecture_fields(fields, error_prefix)


def count_numbered_names(state: StateDict, pattern: str) -> int:
    """How many numbers, from 0 on, the names have where ``pattern`` captures one."""
    return 1 + max((int(m[1]) for n in state if (m := re.fullmatch(pattern, n))), default=-1)


def complete_architecture_fields(fields: Mapping[str, Any], error_prefix: str) -> dict:
    """All fields of a ``VQGANArchitecture`` as plain values, those not given at their defaults.

    Raises:
        RetortError: such an architecture is impossible.
    """
    try:
        whole = asdict(VQGANArchitecture(**{"unshuffle": 1, "mid_attention": True, **fields}))
    except (TypeError, RetortError) as error:
        raise RetortError(f"{error_prefix}: {error}") from error
    return {name: list(v) if isinstance(v, tuple) else v for name, v in whole.items()}
