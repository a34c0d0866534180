"""A CLIP image tower with a linear head that was fine-tuned elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.models.classifier import read_about, resized
from pipeline.models.clip import Normalised, tower_of, write

REVISION = 1


class Tuned(nn.Module):
    """Images (B,C,H,W) in [0,1] to logits (B,K) = linear(tower(x)).

    With ``unit`` the head reads features of unit length, as heads that began as zero-shot ones do
    (Wortsman et al., CVPR 2022).
    """

    def __init__(
        self,
        visual: nn.Module,
        config: dict,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        unit: bool,
        resize: int | None = None,
    ):
        super().__init__()
        self.visual, self.config, self.classes = visual, config, tuple(classes)
        self.unit, self.resize = unit, resize
        self.normalise = Normalised(mean, std)
        self.linear = nn.Linear(config["embed_dim"], len(self.classes))

    def features(self, x: Tensor) -> Tensor:
        """Image embeddings (B,D)."""
        features = self.visual(self.normalise(resized(x, self.resize)))
        return F.normalize(features, dim=-1) if self.unit else features

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of embeddings (B,D)."""
        return self.linear(features)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K)."""
        return self.head(self.features(x))


def save(module: Tuned, path: Path) -> None:
    """Write the tower, the head and what rebuilds them."""
    mean, std = module.normalise.values()
    about = {"kind": "clip-tuned", "config": module.config, "classes": list(module.classes)}
    about |= {"mean": mean, "std": std, "unit": module.unit, "resize": module.resize}
    write(module.state_dict(), about, path)


def load(path: Path) -> Tuned:
    """A saved classifier, in eval mode, on the CPU."""
    about = read_about(path)
    config, names = about["config"], ("classes", "mean", "std", "unit", "resize")
    model = Tuned(tower_of(config), config, *(about[name] for name in names))
    model.load_state_dict(load_file(path))
    return model.eval()
