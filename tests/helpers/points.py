"""Points of attacks: written briefly as the report reads them, and held against their attack."""

from dataclasses import asdict

from pipeline.core.attack_protocol import AttackPoint, list_radii

CLEAN = AttackPoint("clean")
EPS = round(8 / 255, 9)


def pgd(steps: int, eps: float, step: float = 2 / 255, **unusual) -> AttackPoint:
    """PGD from a uniform start, started once, unless said otherwise."""
    usual = {"start": "uniform", "restarts": 1}
    return AttackPoint("pgd", eps, steps, step, **(usual | unusual))


def corrupted(name: str, severity: int = 3) -> AttackPoint:
    """Images under a corruption of the attack ``corruptions``."""
    return AttackPoint("corruptions", corruption=name, severity=severity)


def on_path(sample: int, probe: int | None = None, eps: float = EPS, **shift) -> AttackPoint:
    """A sample of boundary risk's path, before or after its probe."""
    return AttackPoint("boundary_risk", eps, sample=sample, probe=probe, **shift)


def assert_own(attack: object, name: str, point: AttackPoint) -> None:
    """A point names its attack; what it states is the attack's own, or its radius is one of it."""
    stated = {k: v for k, v in asdict(point).items() if v is not None}
    assert stated.pop("attack") == name
    assert stated.pop("eps") in (list_radii(attack.eps) if hasattr(attack, "eps") else (0.0,))
    if name == "corruptions":
        assert stated.pop("corruption") in attack.names
    if name == "boundary_risk":
        assert stated.pop("sample") in range(attack.steps)
    assert stated == {field: getattr(attack, field) for field in stated}
