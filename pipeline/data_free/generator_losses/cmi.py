"""Contrastive model inversion (Fang et al., IJCAI 2021): images unlike earlier ones."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.augment import flip
from pipeline.core.batch import Terms
from pipeline.core.losses import cross_entropy, info_nce, kl_divergence
from pipeline.data_free.teacher_view import GeneratedBatch, compute_statistics_term
from pipeline.errors import RetortError

REVISION = 2
COMPONENTS = (
    "pipeline.core.augment",
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.core.seeding",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)

MIN_AREA_SHARE = 0.25  # smallest share of an image's area in the local view
LARGEST_RATIO = 4 / 3  # of a local view's sides
TRIES = 10  # boxes that are drawn for a local view before the whole image is taken
STAGE_NAME = re.compile(r"(.*\.)?(layer|block)[1-9]")


def draw_boxes(count: int, rng: torch.Generator) -> Tensor:
    """Widths and heights (2,count) of boxes inside a unit square, as of RandomResizedCrop.

    Area and logarithm of the ratio are uniform; of ``TRIES`` draws the first that fits counts.
    """
    area, ratio = torch.rand(2, TRIES, count, generator=rng, device=rng.device)
    area = MIN_AREA_SHARE + (1 - MIN_AREA_SHARE) * area
    ratio = LARGEST_RATIO ** (2 * ratio - 1)
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()])
    fits = (sides <= 1).all(0)
    first = fits.int().argmax(0).view(1, 1, -1).expand(2, 1, -1)
    return torch.where(fits.any(0), sides.gather(1, first)[:, 0], 1.0)


def zoom_randomly(x: Tensor, rng: torch.Generator) -> Tensor:
    """A random box of each image, enlarged to full size and randomly flipped; differentiable."""
    sides = draw_boxes(len(x), rng).to(x)
    places = torch.rand(2, len(x), generator=rng, device=x.device).to(x.dtype)
    theta = x.new_zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = sides
    theta[:, :, 2] = ((2 * places - 1) * (1 - sides)).t()
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return flip(F.grid_sample(x, grid, padding_mode="border", align_corners=False), rng)


@dataclass(eq=False, repr=False)
class Loss(nn.Module):
    """bn L_BN + oh CE(T(x), y) - adv [agree] KL(T || S) + contrast L_cr (their Sec. 3.2, 2021).

    The adversarial term counts only where student and teacher predict the same class. L_cr is
    InfoNCE of local against global views: rows are B images and ``negatives`` remembered ones,
    queries the projections of local features, keys those of global features, without gradient. The
    mean over the images and that over the remembered rows are added. The global view is the
    augmented image, the local one a random part of the image. Features are the means over each
    image of the inputs of the teacher's layers; penultimate features, if it has no such layer.

    Attributes:
        bn: weight of the gap of BatchNorm statistics.
        oh: weight of the cross-entropy against the label.
        adv: weight of the disagreement of teacher and student.
        contrast: weight of the contrast to other images.
        temperature: number by which the contrast divides cosines.
        memory: number of past images that are remembered.
        negatives: number of remembered images, drawn anew at each step, that a step contrasts with.
        width: number of outputs of the projection.
        layers: layers whose inputs are the features: all "norms" (BatchNorms), or the "stages" of a
            residual network, as the released code has it for a ResNet-34.
    """

    rounds: ClassVar[bool] = True
    generator_start: ClassVar[str] = "normal"

    bn: float = 1.0
    oh: float = 1.0
    adv: float = 0.5
    contrast: float = 0.8
    temperature: float = 0.2
    memory: int = 40960
    negatives: int = 4096
    width: int = 256
    layers: Literal["norms", "stages"] = "norms"

    def __post_init__(self):
        super().__init__()
        self.head = nn.Identity()
        self.register_buffer("past", torch.empty(0, 0))

    def needs(self) -> tuple[str, ...]:
        """Both teacher and student."""
        return ("teacher", "student")

    def find_layers(self, teacher: nn.Module) -> list[nn.Module]:
        """The layers whose inputs are the features.

        Raises:
            RetortError: "stages" of a network that has none by the names layer1 or block1.
        """
        if self.layers == "norms":
            return [layer for layer in teacher.modules() if isinstance(layer, nn.BatchNorm2d)]
        found = [m for name, m in teacher.named_modules() if STAGE_NAME.fullmatch(name)]
        if not found:
            raise RetortError("losses.cmi.layers: the teacher has no stages; set it to 'norms'")
        return found

    @contextmanager
    def watch(self, teacher: nn.Module) -> Iterator[list[Tensor]]:
        """Collect the features (B,C) of each layer from a forward inside the block."""
        found: list[Tensor] = []

        def record_means(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found.append(inputs[0].mean((2, 3)))

        layers = self.find_layers(teacher)
        handles = [layer.register_forward_pre_hook(record_means) for layer in layers]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    def compute_local_features(self, batch: GeneratedBatch) -> Tensor:
        """Features (B,D) of a random part of each image; one forward of the teacher."""
        with self.watch(batch.teacher) as found:
            penultimate = batch.teacher.features(zoom_randomly(batch.raw, batch.rng))
        return join_features(found, penultimate)

    def allocate_projection(self, width: int, like: Tensor) -> None:
        """Allocate a projection and a memory for features of this width."""
        with torch.random.fork_rng(devices=[]):  # these first weights are overwritten
            layers = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.width)
        self.head = nn.Sequential(*layers).to(like)
        self.past = like.new_empty(0, 2 * width)

    def prepare(self, batch: GeneratedBatch) -> None:
        """Draw the weights of the projection as torch does, once."""
        if isinstance(self.head, nn.Identity):
            features = join_features(batch.watched, batch.features)
            self.allocate_projection(features.shape[1], features)
            for layer in (self.head[0], self.head[2]):
                bound = layer.in_features**-0.5
                for weight in (layer.weight, layer.bias):
                    drawn = torch.rand(weight.shape, generator=batch.rng, device=weight.device)
                    weight.data.copy_(bound * (2 * drawn - 1))

    def compute_contrast(self, local: Tensor, whole: Tensor, rng: torch.Generator) -> Tensor:
        """L_cr (B,), nats, of local and global features (B,D); contrasts with the memory too."""
        chosen = torch.randperm(len(self.past), generator=rng, device=rng.device)[: self.negatives]
        past_local, past_whole = self.past[chosen].chunk(2, 1)
        queries = self.head(torch.cat([local, past_local]))
        keys = self.head(torch.cat([whole, past_whole])).detach()
        losses = info_nce(queries, keys, self.temperature)
        own, past = losses[: len(local)], losses[len(local) :]
        return own + past.mean() if len(past) else own

    def forward(self, batch: GeneratedBatch) -> Terms:
        """The weighted terms (B,), all in nats except the statistics."""
        student = batch.student(batch.x)
        agree = student.argmax(1) == batch.logits.argmax(1)
        whole, local = (
            join_features(batch.watched, batch.features),
            self.compute_local_features(batch),
        )
        batch.notes["features"] = torch.cat([local, whole], 1).detach()
        return {
            "oh": self.oh * cross_entropy(batch.logits, batch.y),
            "adv": -self.adv * agree * kl_divergence(student, batch.logits),
            "contrast": self.contrast * self.compute_contrast(local, whole, batch.rng),
        } | compute_statistics_term(batch, self.bn)

    @torch.no_grad()
    def remember(self, batch: GeneratedBatch) -> None:
        """Add both views' features of a round's images to the memory and drop the oldest."""
        self.past = torch.cat([self.past, batch.notes["features"]])[-self.memory :]

    def load_state_dict(self, state: dict, strict: bool = True, assign: bool = False):
        """Restore a saved state with a memory of any size."""
        if len(state) > 1:
            self.allocate_projection(state["past"].shape[1] // 2, state["past"])
            self.past = state["past"].clone()
        return super().load_state_dict(state, strict, assign)


def join_features(layers: list[Tensor], penultimate: Tensor) -> Tensor:
    """The layers' features side by side (B,D), or the penultimate ones if there are none."""
    return torch.cat(layers, 1) if layers else penultimate
