"""The cost of one training step of an objective, counted by running the step under autograd.

The unit is F, one forward pass of a network on the batch's images. A backward pass that gives only
gradients of the input costs one more F; one that also gives gradients of the parameters costs two.
The networks' only layer is an autograd function that records each of its calls with the number of
images. So nothing is timed and nothing is estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, find_trained_roles
from pipeline.discovery import list_own_names
from pipeline.errors import RetortError
from pipeline.schema import make_plugin
from pipeline.training.gradient_matching import GradientMatching

IMAGE_SIDE, CLASS_COUNT, IMAGE_COUNT = 2, 4, 5  # of the batch that is run
LATE_PROGRESS = 0.5  # share of training after which no method still uses its simpler first loss

CallLog = list[tuple[str, int]]  # what ran, on how many images


class RecordedLinear(torch.autograd.Function):
    """x @ weight; records each forward and backward pass for the input's gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, calls: CallLog) -> Tensor:
        """Logits (B,K) of flattened images (B,D)."""
        calls.append(("forward", len(x)))
        ctx.save_for_backward(x, weight)
        ctx.book = calls
        return x @ weight

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Gradients of the images, and of the weight where it has one."""
        x, weight = ctx.saved_tensors
        ctx.book.append(("input", len(x)))
        return grad @ weight.T, x.T @ grad if ctx.needs_input_grad[1] else None, None


class RecordedWeight(torch.autograd.Function):
    """The weight; records each backward pass for its gradient, also if a graph is used twice."""

    @staticmethod
    def forward(ctx, weight: Tensor, calls: CallLog, images: int) -> Tensor:
        """The weight, unchanged."""
        ctx.book, ctx.images = calls, images
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        """The weight's gradient, unchanged."""
        ctx.book.append(("parameters", ctx.images))
        return grad, None, None


class RecordedNetwork(nn.Module):
    """One recorded linear layer on flattened images."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3 * IMAGE_SIDE**2, CLASS_COUNT, generator=rng))
        self.calls: CallLog = []

    def features(self, x: Tensor) -> Tensor:
        """Logits (B,K), which take the place of features."""
        return RecordedLinear.apply(
            x.flatten(1), RecordedWeight.apply(self.weight, self.calls, len(x)), self.calls
        )

    def head(self, features: Tensor) -> Tensor:
        """The features, which are the logits already."""
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K)."""
        return self.head(self.features(x))

    @property
    def cost(self) -> float:
        """Passes recorded so far, in F."""
        return sum(images for _, images in self.calls) / IMAGE_COUNT


class RecordedDiscretizer(nn.Module):
    """Returns images unchanged; records each reconstruction, an encoder and a decoder pass."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: CallLog = []

    def reconstruct(self, x: Tensor) -> Tensor:
        """x, unchanged."""
        self.calls.append(("reconstruct", len(x)))
        return x

    @property
    def cost(self) -> float:
        """Reconstructions recorded so far, of the batch's images."""
        return sum(images for _, images in self.calls) / IMAGE_COUNT


@dataclass(frozen=True)
class StepCost:
    """Passes of one step: F of student and teachers, and reconstructions of the discretizer."""

    student: float
    teachers: dict[str, float]
    discretizer: float


@dataclass
class PassCounter:
    """Counts the passes of an objective's step on recorded networks, one for each role."""

    teacher_roles: Sequence[str] = ("teacher",)
    student: RecordedNetwork = field(default_factory=lambda: RecordedNetwork(1))
    discretizer: RecordedDiscretizer = field(default_factory=RecordedDiscretizer)

    def __post_init__(self):
        self.teacher_networks = {
            role: RecordedNetwork(seed).requires_grad_(False)
            for seed, role in enumerate(self.teacher_roles, 2)
        }

    def measure_step(
        self, objective, stored_fields: Sequence[str], progress: float = LATE_PROGRESS
    ) -> StepCost:
        """The cost of one training step, without the objective's ``prepare``."""
        rng = torch.Generator().manual_seed(0)
        x = torch.rand(IMAGE_COUNT, 3, IMAGE_SIDE, IMAGE_SIDE, generator=rng)
        labels = torch.arange(IMAGE_COUNT)
        logits = [torch.rand(IMAGE_COUNT, CLASS_COUNT, generator=rng) for _ in range(2)]
        fields = {"x_adv": 1 - x, "y_adv": labels % 3, "t_clean": logits[0], "t_adv": logits[1]}
        kept = {name: fields[name] for name in stored_fields if name in fields}
        batch = Batch(x, labels % CLASS_COUNT, labels, kept, progress, 0, rng)
        roles = Roles(self.student, self.teacher_networks, self.discretizer)
        if hasattr(objective, "prepare"):
            objective.prepare(roles, batch)
        for network in (self.student, self.discretizer, *self.teacher_networks.values()):
            network.calls.clear()
        teachers = [self.teacher_networks[t.role] for t in find_trained_roles(objective)]
        learning = [p for network in (self.student, *teachers) for p in network.parameters()]
        for parameter in learning:
            parameter.requires_grad_(True)
        for terms in objective(roles, batch):
            run_backward(list(terms.values()), learning, per_term=hasattr(objective, "combine"))
        teacher_costs = {role: network.cost for role, network in self.teacher_networks.items()}
        return StepCost(self.student.cost, teacher_costs, self.discretizer.cost)


def run_backward(terms: list[Tensor], parameters: list[nn.Parameter], per_term: bool) -> None:
    """Run backward as the training loop does: over the sum, or per term to merge gradients."""
    groups = [[term] for term in terms] if per_term else [terms]
    for group in groups:
        loss = sum(term.mean() for term in group)
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


def measure_objective(
    spec: dict, roles: Sequence[str], stored: Sequence[str], igdm: float = 0.0
) -> tuple[StepCost, tuple[str, ...]]:
    """The passes of a step of an objective; its name and the reason where they cannot be counted.

    One of the user's own may read more of a network than the recorded ones have, and so raise
    anything. One of ours that raises has a fault. ``igdm`` is the weight of that term, if carried.
    """
    ((name, options),) = spec.items()
    objective = make_plugin("objectives", "Objective", name, options)
    objective = GradientMatching(objective, igdm) if igdm else objective
    try:
        return PassCounter(roles).measure_step(objective, stored), ()
    except Exception as error:
        if name not in list_own_names("objectives") or isinstance(error, RetortError):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return StepCost(0.0, dict.fromkeys(roles, 0.0), 0.0), (f"objective '{name}' ({reason})",)
