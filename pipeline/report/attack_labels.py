"""Labels of attacks: the only module that puts an attack and its radius into words."""

from pipeline.core.attack_protocol import AttackPoint, find_norm

REVISION = 4

DEFAULT_STEP_SIZE = 2 / 255  # of PGD; its label leaves it out
PIXEL_TOLERANCE = 1e-6  # radii and step sizes in [0,1] that differ by less are equal
ATTACK_NAMES = {
    "fgsm": "FGSM",
    "autoattack": "AutoAttack",
    "cw_linf": "CW (Linf)",
    "cw_l2": "CW (L2)",
    "jsma": "JSMA (to a random class)",
    "jsma_true": "JSMA (to the true label: no attack)",
    "apgd": "APGD",
    "square": "Square",
    "multitargeted": "MultiTargeted",
}


def format_attack(point: AttackPoint) -> str:
    """An attack's name for a table's heading, without its radius: ``PGD-20 from rn34``."""
    variant = format_variant(point)
    name = format_plain_attack(point).removesuffix(variant)
    if point.attack == "pgd":
        name = f"PGD-{name.removeprefix('pgd')}"
    via = f" from {point.surrogate}" if point.surrogate else ""
    return ATTACK_NAMES.get(name, name.replace("_", " ")) + variant + via


def format_attack_at(point: AttackPoint) -> str:
    """An attack and its radius: ``PGD-20 at 8/255``."""
    return format_attack(point) + (f" at {format_point_radius(point)}" if point.eps else "")


def format_point_radius(point: AttackPoint) -> str:
    """A point's radius: ``8/255``; in another norm, which stands in the name, ``0.5``."""
    return f"{point.eps:.4g}" if find_norm(point) else format_radius(point.eps)


def scale_for_axis(point: AttackPoint, eps: float) -> float:
    """Where a radius of a point's attack stands on an axis: in grey levels, or as it is."""
    return eps if find_norm(point) else 255 * eps


def format_axis(point: AttackPoint) -> str:
    """The name of an axis of radii: ``eps (1/255)``, ``eps (L2)``."""
    return f"eps ({find_norm(point) or '1/255'})"


def format_radius(eps: float) -> str:
    """A radius in [0,1] in grey levels: ``8/255``."""
    return f"{255 * eps:g}/255"


def format_plain_attack(point: AttackPoint) -> str:
    """An attack's name in the configuration and the images' shift: ``pgd20 fog-3``."""
    shift, variant = format_shift(point), format_variant(point)
    if shift and point.attack in ("clean", "corruptions"):
        return shift + variant
    name = point.attack
    if point.attack == "pgd":
        name = f"pgd{point.steps}{format_pgd_options(point)}"
    if point.attack == "boundary_risk":
        name = f"path{point.sample}" + (f"-pgd{point.probe}" if point.probe else "")
    return f"{name} {shift}".rstrip() + variant


def format_variant(point: AttackPoint) -> str:
    """What else distinguishes a point: `` (cifar strengths)``; empty if nothing does."""
    if point.variant is None:
        return ""
    return f" ({point.variant}{' strengths' if point.attack == 'corruptions' else ''})"


def format_pgd_options(point: AttackPoint) -> str:
    """The settings of a PGD that differ from the default: ``-step5.1-gauss-x5``."""
    step = (
        ""
        if abs(point.step - DEFAULT_STEP_SIZE) < PIXEL_TOLERANCE
        else f"-step{255 * point.step:.3g}"
    )
    start = "" if point.start == "uniform" else f"-{point.start}"
    return step + start + (f"-x{point.restarts}" if point.restarts > 1 else "")


def format_shift(point: AttackPoint) -> str:
    """The corruption and the part of the test set: ``fog-3``; empty if there is neither."""
    corruption = f"{point.corruption}-{point.severity}" if point.corruption else ""
    return " ".join(word for word in (corruption, point.part) if word)


def format_corruption(point: AttackPoint) -> str:
    """A corruption's name without its severity: ``gaussian noise``."""
    return point.corruption.replace("_", " ")
