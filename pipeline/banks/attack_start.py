"""First iterates of a bank's attack, drawn for each source row.

This module is part of the stage `pipeline.stages.build_bank`: a change that moves numbers here must
raise REVISION there.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pipeline.core.devices import placement
from pipeline.core.seeding import derive_seed, draw_device_uniforms, make_generator
from pipeline.core.threat_models import L2, Linf


def draw_start(
    x: Tensor, rows: range, threat_model: L2 | Linf, start_probability: float, seed: int
) -> Tensor:
    """First iterates (B,C,H,W) around x: random within the threat model with the probability.

    Every row has its own draws, so a bank does not depend on the size of its blocks. A CPU draws
    row by row, an accelerator a whole block by counter: other numbers.
    """
    if placement.is_accelerator(x.device):
        block_seed = derive_seed(seed, "bank")
        return draw_block_start(x, rows, threat_model, start_probability, block_seed)
    starts = []
    for image, row in zip(x, rows, strict=True):
        rng = make_generator(seed, "bank", row)
        noisy = torch.rand((), generator=rng).item() < start_probability
        image = image.unsqueeze(0).cpu()
        starts.append(threat_model.sample(image, rng) if noisy else image)
    return torch.cat(starts).to(x.device)


def draw_block_start(
    q: Tensor, rows: range, threat_model: L2 | Linf, start_probability: float, seed: int
) -> Tensor:
    """First iterates (B,C,H,W) of a block, each of its row's own draws, made on q's device.

    A uniform or, for L2, a normal noise of the image's shape; the first draw says whether it is
    used.
    """
    count, is_normal = q[0].numel(), isinstance(threat_model, L2)
    needed = 1 + (2 * count if is_normal else count)
    draws = draw_device_uniforms(seed, np.arange(rows.start, rows.stop), 0, needed, q.device)
    noisy, noise = draws[:, 0] < start_probability, draws[:, 1 : 1 + count]
    if is_normal:  # by Box and Muller; 1 - u is never 0
        noise = (-2 * (1 - noise).log()).sqrt() * (2 * math.pi * draws[:, 1 + count :]).cos()
    placed = threat_model.place_noise(q, noise.to(q.dtype).view_as(q))
    return torch.where(noisy.view(-1, 1, 1, 1), placed, q)
