"""Vision transformers for 32 px images: ``vit-tiny-p4``, ``vit-small-p4`` and ``vit-base-p4``.

Dosovitskiy et al., ICLR 2021, with the widths of DeiT (Touvron et al., ICML 2021), through timm's
``VisionTransformer``: depth 12, a class token, patches of 4 px or of another divisor of 32.
"""

import re

from torch import Tensor, nn

from pipeline.errors import RetortError

REVISION = 1

NAME_PATTERN = re.compile(r"vit-(?P<size>tiny|small|base)-p(?P<patch>[1-9]\d*)")
NAME_FORMAT = "vit-<tiny|small|base>-p<patch, 4>"
IMAGE_SIDE = 32
SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # width, heads


class SmallViT(nn.Module):
    """timm's transformer behind this package's protocol."""

    def __init__(self, width: int, heads: int, patch: int, classes: int, channels: int):
        from timm.models.vision_transformer import VisionTransformer  # seconds to import

        super().__init__()
        self.side = IMAGE_SIDE
        self.vit = VisionTransformer(
            img_size=IMAGE_SIDE,
            patch_size=patch,
            in_chans=channels,
            embed_dim=width,
            num_heads=heads,
            num_classes=classes,
        )

    def features(self, x: Tensor) -> Tensor:
        """The class token (B,D) of normalised images (B,C,32,32)."""
        return self.vit.forward_head(self.vit.forward_features(x), pre_logits=True)

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of penultimate features."""
        return self.vit.head(features)


def build(name: str, classes: int, channels: int = 3) -> nn.Module:
    """The network called ``name``.

    Raises:
        RetortError: the patch does not divide 32.
    """
    match = NAME_PATTERN.fullmatch(name)
    patch = int(match["patch"])
    if IMAGE_SIDE % patch:
        raise RetortError(
            f"model '{name}': a patch of {patch} does not divide {IMAGE_SIDE}; use p4"
        )
    return SmallViT(*SIZES[match["size"]], patch, classes, channels)
