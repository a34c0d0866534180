"""A CLIP image tower with a linear head that was fine-tuned elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.models.classifier import read_metadata, resize_images
from pipeline.models.clip import Normalisation, build_tower, write_safetensors

REVISION = 1


class FineTunedClip(nn.Module):
    """Images (B,C,H,W) in [0,1] to logits (B,K) = linear(tower(x)).

    With ``has_unit_features`` the head reads features of unit length, as heads that began as
    zero-shot ones do
    (Wortsman et al., CVPR 2022).
    """

    def __init__(
        self,
        visual: nn.Module,
        config: dict,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        has_unit_features: bool,
        resize: int | None = None,
    ):
        super().__init__()
        self.visual, self.config, self.classes = visual, config, tuple(classes)
        self.has_unit_features, self.resize = has_unit_features, resize
        self.normalise = Normalisation(mean, std)
        self.linear = nn.Linear(config["embed_dim"], len(self.classes))

    def features(self, x: Tensor) -> Tensor:
        """Image embeddings (B,D)."""
        features = self.visual(self.normalise(resize_images(x, self.resize)))
        return F.normalize(features, dim=-1) if self.has_unit_features else features

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of embeddings (B,D)."""
        return self.linear(features)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K)."""
        return self.head(self.features(x))


def save(module: FineTunedClip, path: Path) -> None:
    """Writes the tower, the head and what rebuilds them."""
    mean, std = module.normalise.get_mean_std()
    metadata = {"kind": "clip-tuned", "config": module.config, "classes": list(module.classes)}
    metadata |= {
        "mean": mean,
        "std": std,
        "unit": module.has_unit_features,
        "resize": module.resize,
    }
    write_safetensors(module.state_dict(), metadata, path)


def load(path: Path) -> FineTunedClip:
    """A saved classifier, in eval mode, on the CPU."""
    metadata = read_metadata(path)
    config, names = metadata["config"], ("classes", "mean", "std", "unit", "resize")
    model = FineTunedClip(build_tower(config), config, *(metadata[name] for name in names))
    model.load_state_dict(load_file(path))
    return model.eval()
