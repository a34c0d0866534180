"""Checks whether tokens cover images exactly, before anything is loaded."""

from pipeline.config.reader import Config
from pipeline.config.sections.discretizer import DiscretizerSpec, VqganShape
from pipeline.errors import RetortError
from pipeline.planning.compatibility.fits import get_image_shape

NORM_GROUPS = 32  # of taming's GroupNorm


def compute_token_side(shape: VqganShape | None) -> int | None:
    """Side in pixels of the square that a token stands for; None without a known shape."""
    return None if shape is None else shape.unshuffle * 2 ** (len(shape.ch_mult) - 1)


def check_grid(config: Config, where: str, spec: DiscretizerSpec, dataset: str) -> None:
    """Raise if tokens do not cover the images exactly, or ``ch`` does not fit GroupNorm."""
    _, height, width = get_image_shape(config, dataset)
    side = compute_token_side(spec.shape)
    if side and (height % side or width % side):
        raise RetortError(
            f"{where}: a token stands for {side}x{side} px, data set '{dataset}' has images of "
            f"{height}x{width}; change ch_mult or unshuffle, or the images"
        )
    if spec.checkpoint is None and spec.ch % NORM_GROUPS:
        raise RetortError(f"{where}.ch: {spec.ch} is no multiple of {NORM_GROUPS}; change it")
