"""Images of bytes scaled to pixels in [0,1]."""

from torch import Tensor

REVISION = 1


def scale_to_unit_range(images: Tensor) -> Tensor:
    """uint8 images (B,C,H,W) as floats in [0,1]."""
    return images.float() / 255
