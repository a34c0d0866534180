"""CLIP classifiers through open_clip: a small CLIP of our own, and any model's zero-shot head."""

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import open_clip
import timm
import torch
import torch.nn.functional as F
from open_clip.model import _build_vision_tower
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.architectures import resnet_small
from pipeline.core.devices.placement import copy_to_device
from pipeline.core.pgd import freeze_modules
from pipeline.errors import RetortError
from pipeline.models.classifier import read_metadata, resize_images

REVISION = 1

Tokenizer = Callable[[list[str]], Tensor]  # prompts to token indices (N, context)
Templates = Sequence[Callable[[str], str]]  # class name to prompt

TOWER_NAME_PATTERN = re.compile(r"retort_resnet8_w(?P<width>\d+)")
VOCABULARY_SIZE = 49408  # of open_clip's tokenizer
PROMPT_TEMPLATES = {
    "openai": open_clip.OPENAI_IMAGENET_TEMPLATES,
    "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
}


@dataclass(frozen=True)
class ClipSize:
    """Size of a small CLIP: image tower ``resnet8-s2-w<image_width>`` and text transformer.

    ``embed`` is D; ``context`` the longest prompt in tokens; ``image`` the images' side in pixels.
    """

    image_width: int = 32
    embed: int = 64
    text_width: int = 64
    text_layers: int = 2
    text_heads: int = 2
    context: int = 16
    image: int = 32


def make_open_clip_config(size: ClipSize) -> dict:
    """The open_clip model configuration (what its JSON files hold) of a small CLIP."""
    return {
        "embed_dim": size.embed,
        "vision_cfg": {
            "image_size": size.image,
            "timm_model_name": f"retort_resnet8_w{size.image_width}",
            "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": {
            "context_length": size.context,
            "vocab_size": VOCABULARY_SIZE,
            "width": size.text_width,
            "heads": size.text_heads,
            "layers": size.text_layers,
        },
    }


class ImageTower(nn.Module):
    """The small ResNet as open_clip expects a timm model: pooled features and their number."""

    default_cfg: dict = {}

    def __init__(self, width: int):
        super().__init__()
        self.network = resnet_small.build(f"resnet8-s2-w{width}", 1)
        self.network.fc = nn.Identity()
        self.num_features = 4 * width

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        """Does nothing: open_clip has timm models drop their classifier, and this one has none."""

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features (B,4W) of normalised images (B,3,H,W)."""
        return self.network.features(x)


def register_tower(config: dict) -> None:
    """Registers the image tower of ``config`` with timm, if it is one of ours."""
    match = TOWER_NAME_PATTERN.fullmatch(name := config["vision_cfg"].get("timm_model_name") or "")
    if match is None or timm.is_model(name):
        return

    def create_tower(pretrained, pretrained_cfg, pretrained_cfg_overlay, cache_dir) -> ImageTower:
        return ImageTower(int(match["width"]))

    create_tower.__name__ = name
    timm.models.register_model(create_tower)


def build_tower(config: dict) -> nn.Module:
    """The image tower of ``config`` alone, with random weights."""
    register_tower(config)
    quick = config.get("quick_gelu", False)
    return _build_vision_tower(config["embed_dim"], dict(config["vision_cfg"]), quick)


def register_config(config: dict) -> str:
    """The name under which open_clip knows ``config``: a digest of its content."""
    text = json.dumps(config, sort_keys=True)
    name = f"retort-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    register_tower(config)
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.json")
            path.write_text(text, encoding="utf-8")
            open_clip.add_model_config(path)
    return name


def build(config: dict, device: str = "cpu") -> nn.Module:
    """An open_clip model with random weights from torch's global generator."""
    previous_level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns that the weights are random
    try:
        name = register_config(config)
        return open_clip.create_model(name, device=device, pretrained_text=False)
    finally:
        logging.disable(previous_level)


def get_tokenizer(config: dict) -> Tokenizer:
    """Prompts to token indices (N, context length)."""
    return open_clip.get_tokenizer(register_config(config))


class Normalisation(nn.Module):
    """Mean and standard deviation as a layer over images (B,C,H,W) in [0,1]."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def get_mean_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation by channel."""
        return self.mean.flatten().tolist(), self.std.flatten().tolist()

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean) / std."""
        return (x - self.mean) / self.std


class ZeroShotClassifier(nn.Module):
    """An image tower and a fixed head of text embeddings (Radford et al., ICML 2021).

    Maps images (B,C,H,W) in [0,1] to logits (B,K) = scale * features @ weights, with features
    (B,D) and weights (D,K) of unit length. With ``resize`` it first resizes images to that side.
    """

    def __init__(
        self,
        visual: nn.Module,
        config: dict,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        weights: Tensor,
        scale: Tensor,
        resize: int | None = None,
    ):
        super().__init__()
        self.visual, self.config, self.classes = visual, config, tuple(classes)
        self.resize = resize
        self.normalise = Normalisation(mean, std)
        self.register_buffer("weights", weights)
        self.register_buffer("scale", scale.detach().reshape(()))

    def features(self, x: Tensor) -> Tensor:
        """Image embeddings (B,D) of unit length."""
        return F.normalize(self.visual(self.normalise(resize_images(x, self.resize))), dim=-1)

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of embeddings (B,D)."""
        return self.scale * features @ self.weights

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K)."""
        return self.head(self.features(x))


def build_zero_shot_head(
    model: nn.Module, tokenizer: Tokenizer, classes: Sequence[str], templates: Templates
) -> Tensor:
    """The zero-shot head (D,K): each class the renormalised mean of its prompts' embeddings."""
    device = next(model.parameters()).device
    with freeze_modules(model):
        return open_clip.build_zero_shot_classifier(
            model, tokenizer, classes, templates, device=device
        )


class PromptClassifier(nn.Module):
    """A CLIP in training: images (B,C,H,W) in [0,1] to logits (B,K) over one prompt per class.

    Cross-entropy trains both towers: with few classes the contrastive loss meets false negatives.
    Training steps take ``prompt`` and ``templates`` in turn, eval mode takes ``prompt``.
    """

    def __init__(
        self, config: dict, classes, mean, std, prompt="a photo of a {}.", templates: Templates = ()
    ):
        super().__init__()
        self.config, self.classes = config, tuple(classes)
        self.clip = build(config)
        self.normalise = Normalisation(mean, std)
        # a moving average of buffers turns -inf into NaN and rounds indices away
        self.clip.attn_mask.clamp_(min=-1e4)
        texts = [form(name) for form in (prompt.format, *templates) for name in self.classes]
        self.prompts = get_tokenizer(config)(texts).view(1 + len(templates), len(classes), -1)
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K) = exp(logit_scale) * image @ text."""
        self.turn += int(self.training)
        turn = self.turn % len(self.prompts) if self.training else torch.zeros_like(self.turn)
        prompts = copy_to_device(self.prompts, x.device)
        if x.is_cuda:
            self.prompts = prompts  # copied once
        image = self.clip.encode_image(self.normalise(x), normalize=True)
        text = self.clip.encode_text(prompts.index_select(0, turn.view(1))[0], normalize=True)
        return self.clip.logit_scale.exp() * image @ text.t()

    def make_zero_shot_classifier(self, templates: Templates) -> ZeroShotClassifier:
        """The zero-shot classifier on the templates' ensemble; it shares the image tower."""
        weights = build_zero_shot_head(
            self.clip, get_tokenizer(self.config), self.classes, templates
        )
        settings = self.config, self.classes, *self.normalise.get_mean_std()
        return ZeroShotClassifier(
            self.clip.visual, *settings, weights, self.clip.logit_scale.exp()
        ).eval()


def save(module: ZeroShotClassifier, path: Path) -> None:
    """Writes the image tower, the head and what rebuilds them, without the text tower."""
    mean, std = module.normalise.get_mean_std()
    metadata = {"kind": "clip", "config": module.config, "mean": mean, "std": std}
    metadata |= {"resize": module.resize} if module.resize else {}
    write_safetensors(module.state_dict(), metadata | {"classes": list(module.classes)}, path)


def save_text_tower(model: nn.Module, config: dict, path: Path) -> None:
    """Writes what ``save`` leaves out of an open_clip model: the text tower and the scale."""
    text = {k: v for k, v in model.state_dict().items() if not k.startswith("visual.")}
    write_safetensors(text, {"kind": "clip-text", "config": config}, path)


def write_safetensors(tensors: dict[str, Tensor], metadata: dict, path: Path) -> None:
    """Writes one safetensors file with our metadata."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(tensors, path, metadata={"retort": json.dumps(metadata)})


def load(path: Path) -> ZeroShotClassifier:
    """A saved zero-shot classifier, in eval mode, on the CPU; no text tower is built.

    Raises:
        RetortError: the file holds something else.
    """
    metadata = read_metadata(path)
    if metadata["kind"] != "clip":
        raise RetortError(f"{path}: holds '{metadata['kind']}', not 'clip'; name another file")
    config, tensors = metadata["config"], load_file(path)
    parts = (
        metadata["classes"],
        metadata["mean"],
        metadata["std"],
        tensors["weights"],
        tensors["scale"],
    )
    model = ZeroShotClassifier(build_tower(config), config, *parts, metadata.get("resize"))
    model.load_state_dict(tensors)
    return model.eval()
