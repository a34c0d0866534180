"""Networks and images that the tests of generators' losses look at."""

import dataclasses

import torch
from torch import Tensor, nn

from pipeline.data_free.teacher_view import GeneratedBatch, show_to_teacher
from pipeline.discovery import load_plugin

COUNT, CLASSES = 6, 4


class Network(nn.Module):
    """A convolution, BatchNorm with odd statistics or none, and a head; in double precision."""

    def __init__(self, seed: int, norm: bool = True) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, 5, 3, 2)
        self.norm = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.fc = nn.Linear(5, CLASSES)
        self.double().eval().requires_grad_(False)
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=rng, dtype=tensor.dtype) * 2 - 0.9)
        self.fc.bias.zero_()
        if norm:
            self.norm.running_var.abs_().add_(0.1)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).tanh().mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        return 4 * self.fc(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


TEACHER, STUDENT = Network(1), Network(4)  # of six answers they share five


def images(seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(COUNT, 3, 7, 7, generator=rng, dtype=torch.float64)
    return (x * torch.linspace(0.1, 1, COUNT).view(-1, 1, 1, 1)).requires_grad_()


def shown(
    loss, x: Tensor, teacher: nn.Module = TEACHER, student: nn.Module = STUDENT, seed: int = 3
) -> GeneratedBatch:
    """What a source shows a loss, which is prepared for it."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(COUNT) % CLASSES
    made = show_to_teacher(x, y, teacher, student, rng, uses_teacher="teacher" in loss.needs())
    if hasattr(loss, "prepare"):
        loss.prepare(made)
        made = dataclasses.replace(made, rng=torch.Generator().manual_seed(seed))
    return made


def values(name: str, **given) -> dict[str, Tensor]:
    loss = load_plugin("generator_losses", name).Loss()
    return {k: v.detach() for k, v in loss(shown(loss, images(), **given)).items()}
