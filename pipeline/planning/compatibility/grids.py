"""Whether tokens cover images: asked before anything is loaded."""

from collections.abc import Mapping

from pipeline.config.reader import Config
from pipeline.errors import RetortError
from pipeline.planning.compatibility.fits import shape_of

GROUPS = 32  # of taming's GroupNorm


def token_side(spec: Mapping) -> int | None:
    """Side in pixels of what a token stands for; None for a file that only its tensors describe."""
    about = spec.get("architecture", spec)
    return about["unshuffle"] * 2 ** (len(about["ch_mult"]) - 1) if "ch_mult" in about else None


def check_grid(config: Config, where: str, spec: Mapping, dataset: str) -> None:
    """Raise if a data set's images are no whole number of tokens, or a width no network has."""
    _, height, width = shape_of(config, dataset)
    side = token_side(spec)
    if side and (height % side or width % side):
        raise RetortError(
            f"{where}: a token stands for {side}x{side} px, data set '{dataset}' has images of "
            f"{height}x{width}; change ch_mult or unshuffle, or the images"
        )
    if spec.get("ch", GROUPS) % GROUPS:
        raise RetortError(f"{where}.ch: {spec['ch']} is no multiple of {GROUPS}; change it")
