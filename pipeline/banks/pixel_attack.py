"""Samples in pixel space: PGD's around an image, rounded to 8 bits without leaving the ball.

The loss is that of PGD (Madry et al., ICLR 2018), of RSLAD's inner attack (Zi et al., ICCV 2021) or
of AdaAD's (Huang et al., CVPR 2023, eq. 10), where a fixed network takes the learning student's
place.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.config.sections.bank import BankAttackSettings
from pipeline.core.losses import cross_entropy, kl_divergence
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.threat_models import L2, Linf

REVISION = 1

LEVELS = 255  # of a pixel of 8 bits, above 0
TOLERANCE = 1e-3  # of a radius in levels: what single precision may leave of it


def attack_images(
    x: Tensor,
    y: Tensor,
    start: Tensor,
    networks: tuple[nn.Module, nn.Module],
    threat_model: L2 | Linf,
    attack: BankAttackSettings,
) -> Tensor:
    """Samples (B,C,H,W) in the ball around x, each pixel a multiple of 1/255.

    Args:
        x: images (B,C,H,W) of 8 bits, in [0,1].
        y: their labels (B,).
        start: first iterates (B,C,H,W).
        networks: the bank's teacher, and the network that is attacked, which may be the same.
        threat_model: the ball.
        attack: steps, their size, and the loss.
    """
    with freeze_modules(*networks):
        z = run_pgd(
            x,
            make_loss(x, y, networks, attack.loss),
            threat_model,
            steps=attack.steps,
            step_size=attack.step,
            start=start,
        )
    return round_into_ball(z, x, threat_model)


def make_loss(
    x: Tensor, y: Tensor, networks: tuple[nn.Module, nn.Module], name: str
) -> Callable[[Tensor], Tensor]:
    """The loss (B,) of iterates z (B,C,H,W), with T the first network and A the second.

    `ce` is the cross-entropy of A(z) and y, `rslad` KL(T(x) || A(z)), `adaad` KL(T(z) || A(z)),
    whose gradient flows through both.
    """
    teacher, attacked = networks
    if name == "ce":
        return lambda z: cross_entropy(attacked(z), y)
    if name == "adaad":
        return lambda z: kl_divergence(attacked(z), teacher(z))
    with torch.no_grad():
        target = teacher(x)
    return lambda z: kl_divergence(attacked(z), target)


def round_into_ball(z: Tensor, x: Tensor, threat_model: L2 | Linf) -> Tensor:
    """Points z (B,C,H,W) of the ball around x rounded to multiples of 1/255, still in the ball.

    x has 8 bits. In L-infinity, a change that rounding would carry out of the ball stays at the
    last level within. In L2 the changes that were rounded up by most are rounded down instead,
    until the ball holds.
    """
    origin = (x.double() * LEVELS).round()
    change = z.double() * LEVELS - origin
    radius, levels = threat_model.eps * LEVELS + TOLERANCE, change.round()
    if isinstance(threat_model, Linf):
        levels = levels.clamp(-int(radius), int(radius))
    else:
        levels = shrink_levels(levels.flatten(1), change.flatten(1), radius).view_as(x)
    return ((origin + levels) / LEVELS).to(x.dtype)


def shrink_levels(levels: Tensor, change: Tensor, radius: float) -> Tensor:
    """Rounded changes (B,D), some rounded down so that no norm exceeds the radius; in levels."""
    overshoot = levels.abs() - change.abs()
    order = overshoot.argsort(dim=1, descending=True, stable=True)
    gained = torch.where(overshoot > 0, 2 * levels.abs() - 1, 0.0)  # of the squared norm
    saved = gained.long().gather(1, order)  # integers, which a GPU adds up in any order
    excess = levels.square().sum(1, keepdim=True) - radius**2
    is_due = (saved.cumsum(1) - saved < excess) & (saved > 0)
    lowered = torch.zeros_like(levels).scatter(1, order, is_due.to(levels.dtype))
    return levels - levels.sign() * lowered
