"""A batch of DAD's samples (Zhou et al., NeurIPS 2023) as a plain loop makes them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RADIUS = 0.1


def make_samples(
    quantizer: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples (B,3,H,W) uint8, whether each is accepted (B,), and both outputs (B,K)."""
    with torch.no_grad():
        q = quantizer.reconstruct(x)
    z = q.detach().requires_grad_()
    F.cross_entropy(teacher(z), y).backward()
    with torch.no_grad():
        norm = z.grad.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        moved = (q + RADIUS * z.grad / norm).clamp(0, 1)
        samples = (quantizer.reconstruct(moved) * 255).round().to(torch.uint8)
        judged, clean = teacher(samples.float() / 255), teacher(x)
        return samples.cpu(), (judged.argmax(1) == y).cpu(), judged.cpu(), clean.cpu()
