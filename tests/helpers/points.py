"""Points of attacks, written briefly as the report reads them."""

from pipeline.core.attack_protocol import AttackPoint

CLEAN = AttackPoint("clean")
EPS = round(8 / 255, 9)


def pgd(steps: int, eps: float, step: float = 2 / 255, **unusual) -> AttackPoint:
    """PGD from a uniform start, started once, unless said otherwise."""
    usual = {"start": "uniform", "restarts": 1}
    return AttackPoint("pgd", eps, steps, step, **(usual | unusual))


def corrupted(name: str, severity: int = 3, variant: str | None = None) -> AttackPoint:
    """Images under a corruption of the attack ``corruptions``."""
    return AttackPoint("corruptions", corruption=name, severity=severity, variant=variant)


def on_path(sample: int, probe: int | None = None, eps: float = EPS, **shift) -> AttackPoint:
    """A sample of boundary risk's path, before or after its probe."""
    return AttackPoint("boundary_risk", eps, sample=sample, probe=probe, **shift)
