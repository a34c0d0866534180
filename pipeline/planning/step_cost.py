"""What one training step of an objective costs, counted where autograd itself does the work.

The unit is F, one forward of a network on the batch's images. A backward that gives gradients of
the input alone costs one more F; one that also gives gradients of the parameters costs two. The
networks' only layer is an autograd function that books each of its calls with its images, so
nothing is timed and nothing is estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles

SIDE, CLASSES, IMAGES = 2, 4, 5  # of the images that are counted on
LATE = 0.5  # of training, when methods that begin with a simpler loss have left it

Book = list[tuple[str, int]]  # what ran, on how many images


class Work(torch.autograd.Function):
    """x @ weight; books forwards and backwards, which run for the input's gradient at least."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, book: Book) -> Tensor:
        """Logits (B,K) of flattened images (B,D)."""
        book.append(("forward", len(x)))
        ctx.save_for_backward(x, weight)
        ctx.book = book
        return x @ weight

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Gradients of the images, and of the weight where it has one."""
        x, weight = ctx.saved_tensors
        ctx.book.append(("input", len(x)))
        return grad @ weight.T, x.T @ grad if ctx.needs_input_grad[1] else None, None


class Learn(torch.autograd.Function):
    """The weight; books each backward that asks for its gradient, also of a graph used twice."""

    @staticmethod
    def forward(ctx, weight: Tensor, book: Book, images: int) -> Tensor:
        """The weight as it is."""
        ctx.book, ctx.images = book, images
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        """Its gradient."""
        ctx.book.append(("parameters", ctx.images))
        return grad, None, None


class Network(nn.Module):
    """One booked layer on flattened images."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3 * SIDE**2, CLASSES, generator=rng))
        self.book: Book = []

    def features(self, x: Tensor) -> Tensor:
        """The logits themselves."""
        return Work.apply(x.flatten(1), Learn.apply(self.weight, self.book, len(x)), self.book)

    def head(self, features: Tensor) -> Tensor:
        """Its features are its logits."""
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K)."""
        return self.head(self.features(x))

    @property
    def cost(self) -> float:
        """F spent so far."""
        return sum(images for _, images in self.book) / IMAGES


class Quantiser(nn.Module):
    """Images as they are; books each reconstruction, one encoder and one decoder pass."""

    def __init__(self) -> None:
        super().__init__()
        self.book: Book = []

    def reconstruct(self, x: Tensor) -> Tensor:
        """x."""
        self.book.append(("reconstruct", len(x)))
        return x

    @property
    def cost(self) -> float:
        """Reconstructions so far."""
        return sum(images for _, images in self.book) / IMAGES


@dataclass(frozen=True)
class Passes:
    """F of one step by network; of Q in reconstructions, an encoder and a decoder pass each."""

    student: float
    teachers: dict[str, float]
    discretizer: float


@dataclass
class Bench:
    """Booked networks in the roles that an objective needs, and a batch."""

    teachers: Sequence[str] = ("teacher",)
    student: Network = field(default_factory=lambda: Network(1))
    quantiser: Quantiser = field(default_factory=Quantiser)

    def __post_init__(self):
        self.guides = {
            role: Network(seed).requires_grad_(False) for seed, role in enumerate(self.teachers, 2)
        }

    def step(self, objective, stored: Sequence[str], progress: float = LATE) -> Passes:
        """One training step, its preparation left out."""
        rng = torch.Generator().manual_seed(0)
        x = torch.rand(IMAGES, 3, SIDE, SIDE, generator=rng)
        labels = torch.arange(IMAGES)
        logits = [torch.rand(IMAGES, CLASSES, generator=rng) for _ in range(2)]
        fields = {"x_adv": 1 - x, "y_adv": labels % 3, "t_clean": logits[0], "t_adv": logits[1]}
        kept = {name: fields[name] for name in stored if name in fields}
        batch = Batch(x, labels % CLASSES, labels, kept, progress, 0, rng)
        roles = Roles(self.student, self.guides, self.quantiser)
        if hasattr(objective, "prepare"):
            objective.prepare(roles, batch)
        for network in (self.student, self.quantiser, *self.guides.values()):
            network.book.clear()
        for terms in objective(roles, batch):
            self.backward(list(terms.values()), apart=hasattr(objective, "combine"))
        guides = {role: network.cost for role, network in self.guides.items()}
        return Passes(self.student.cost, guides, self.quantiser.cost)

    def backward(self, terms: list[Tensor], apart: bool) -> None:
        """As the loop does: once over the sum, or once a term where gradients are merged."""
        groups = [[term] for term in terms] if apart else [terms]
        for group in groups:
            loss = sum(term.mean() for term in group)
            torch.autograd.grad(
                loss, list(self.student.parameters()), retain_graph=True, allow_unused=True
            )
