"""Contrastive model inversion (Fang et al., IJCAI 2021): images unlike earlier ones."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.augment import flip
from pipeline.core.batch import Terms
from pipeline.core.losses import cross_entropy, kl_divergence
from pipeline.data_free.teacher_view import GeneratedBatch, compute_statistics_term

REVISION = 1
COMPONENTS = (
    "pipeline.core.augment",
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.core.seeding",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)

PROJECTION_WIDTH = 128  # of the projected features
MIN_AREA_SHARE = 0.25  # smallest share of an image's area in the second view


def zoom_randomly(x: Tensor, rng: torch.Generator) -> Tensor:
    """A random square of each image, enlarged to full size and randomly flipped; differentiable."""
    draws = torch.rand(3, len(x), generator=rng, device=x.device).to(x.dtype)
    side = (MIN_AREA_SHARE + (1 - MIN_AREA_SHARE) * draws[0]).sqrt()
    centre = (2 * draws[1:] - 1) * (1 - side)
    theta = x.new_zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = centre.t()
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return flip(F.grid_sample(x, grid, padding_mode="border", align_corners=False), rng)


def contrastive_loss(
    first_view: Tensor, second_view: Tensor, past_features: Tensor, temperature: float
) -> Tensor:
    """InfoNCE (B,), nats, of two views (B,D) of B images against both and past features (M,D).

    The logits are cosines divided by the temperature. Each view's target is the other view.
    """
    z = F.normalize(torch.cat([first_view, second_view, past_features]), dim=1)
    cosines = z[: 2 * len(first_view)] @ z.t() / temperature
    is_self = torch.eye(*cosines.shape, dtype=torch.bool, device=z.device)
    other = torch.arange(2 * len(first_view), device=z.device).roll(len(first_view))
    losses = cross_entropy(cosines.masked_fill(is_self, float("-inf")), other)
    return losses.view(2, -1).mean(0)


@dataclass(eq=False, repr=False)
class Loss(nn.Module):
    """bn L_BN + oh CE(T(x), y) - adv [agree] KL(T || S) + contrast L_cr (their Sec. 3.2, 2021).

    The adversarial term counts only where student and teacher predict the same class. L_cr
    compares projections of the teacher's features of an image and of a part of it with those of
    the last ``memory`` images; the projection is learnt too.

    Attributes:
        bn: weight of the gap of BatchNorm statistics.
        oh: weight of the cross-entropy against the label.
        adv: weight of the disagreement of teacher and student.
        contrast: weight of the contrast to other images.
        temperature: number by which the contrast divides cosines.
        memory: number of past images to contrast with.
    """

    rounds: ClassVar[bool] = True

    bn: float = 1.0
    oh: float = 1.0
    adv: float = 0.5
    contrast: float = 0.8
    temperature: float = 0.2
    memory: int = 40960

    def __post_init__(self):
        super().__init__()
        self.head = nn.Identity()
        self.register_buffer("past", torch.empty(0, 0))

    def needs(self) -> tuple[str, ...]:
        """Both teacher and student."""
        return ("teacher", "student")

    def allocate_projection(self, width: int, like: Tensor) -> None:
        """Allocate a projection and a memory for features of this width."""
        with torch.random.fork_rng(devices=[]):  # these first weights are overwritten
            layers = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTION_WIDTH)
        self.head = nn.Sequential(*layers).to(like)
        self.past = like.new_empty(0, width)

    def prepare(self, batch: GeneratedBatch) -> None:
        """Draw the weights of the projection of the teacher's features, once."""
        if isinstance(self.head, nn.Identity):
            self.allocate_projection(batch.features.shape[1], batch.features)
            for weight in self.head.parameters():
                scale = weight.shape[-1] ** -0.5
                drawn = torch.randn(weight.shape, generator=batch.rng, device=weight.device)
                weight.data.copy_(drawn * scale)

    def forward(self, batch: GeneratedBatch) -> Terms:
        """The weighted terms (B,), all in nats except the statistics."""
        student = batch.student(batch.x)
        agree = student.argmax(1) == batch.logits.argmax(1)
        part = batch.teacher.features(zoom_randomly(batch.x, batch.rng))
        views = [self.head(f) for f in (part, batch.features, self.past)]
        return {
            "oh": self.oh * cross_entropy(batch.logits, batch.y),
            "adv": -self.adv * agree * kl_divergence(student, batch.logits),
            "contrast": self.contrast * contrastive_loss(*views, self.temperature),
        } | compute_statistics_term(batch, self.bn)

    @torch.no_grad()
    def remember(self, batch: GeneratedBatch) -> None:
        """Add the features of a round's images to the memory and drop the oldest."""
        self.past = torch.cat([self.past, batch.features])[-self.memory :]

    def load_state_dict(self, state: dict, strict: bool = True, assign: bool = False):
        """Restore a saved state with a memory of any size."""
        if len(state) > 1:
            self.allocate_projection(state["past"].shape[1], state["past"])
            self.past = state["past"].clone()
        return super().load_state_dict(state, strict, assign)
