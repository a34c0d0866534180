"""What differs between our setting and the printed one, in words."""

from collections.abc import Sequence

from pipeline.core.attack_protocol import name_norm
from pipeline.discovery import load_plugin
from pipeline.report.papers.metrics import Score
from pipeline.report.papers.networks import (
    TEACHERS_FROM_FILES,
    is_network,
    list_printed_teachers,
)
from pipeline.report.papers.printed import PrintedTable, PrintedValue, RowIdentity
from pipeline.report.papers.settings import Setting
from pipeline.schema import get_defaults

REVISION = 4

TEST_COUNTS = {  # images of the complete test sets
    "cifar10": 10_000,
    "cifar100": 10_000,
    "imagenet100": 5000,
    "imagenet": 50_000,
    "imagenet-v2": 10_000,
    "imagenet-r": 30_000,
    "imagenet-a": 7500,
    "imagenet-sketch": 50_889,
    "stylized-imagenet": 50_000,
}
TRAIN_COUNTS = {"cifar10": 50_000, "cifar100": 50_000, "imagenet": 1_281_167}
ADAAD_EPOCHS = {"PGD-AT": 110}  # the others 200
DERD_EPOCHS = {"DERD": 100, "w/o stage-I": 100, "stage-I": 2000, "T_nat": 2000, "T_rob": 2000}
PRETRAINED_EPOCHS, SCRATCH_EPOCHS = 30, 300  # DAD's transformers
ATTACK_OPTIONS = ("eps", "step", "steps")
LONGER_IF_QUOTED = ("pgd_t", "cw_linf")  # attacks of 10 steps here, of more in the literature
STAND_IN = "_like"  # ends the name of an objective that stands in for an unpublished one


def describe_differences(
    table: PrintedTable,
    identity: RowIdentity,
    setting: Setting,
    scores: Sequence[tuple[PrintedValue, Score]],
) -> tuple[str, ...]:
    """What differs: network, teachers, method, epochs, training images, attack, and test images."""
    parts = [
        describe_network(identity, setting),
        *describe_teachers(identity, setting),
        describe_stand_in(identity, setting),
        describe_epochs(find_printed_epochs(table, identity), setting),
        describe_training_images(identity, setting),
        describe_inner_attack(setting) if identity.student else "",
        describe_quoted_attacks(scores),
        describe_test_images(scores),
    ]
    return tuple(part for part in parts if part)


def describe_network(identity: RowIdentity, setting: Setting) -> str:
    """The network, where it is another one."""
    printed = identity.student or identity.teacher
    return "" if is_network(printed, setting.model) else f"{setting.model} in place of {printed}"


def describe_teachers(identity: RowIdentity, setting: Setting) -> list[str]:
    """The teachers that are others than the printed ones, or that the paper does not state."""
    if not identity.student:
        return []
    printed, found = list_printed_teachers(identity.teacher), []
    for role, teacher in setting.teachers.items():
        name = printed.get(role) or printed.get("teacher", "")
        place = "teacher" if len(setting.teachers) == 1 else f"{role} teacher"
        if not name:
            found.append(f"{place} {teacher.model} (the paper does not say)")
        elif name in TEACHERS_FROM_FILES and teacher.is_printed(name):
            found.append(f"{place} {teacher.name} ({teacher.model}) from a file")
        elif not teacher.is_printed(name):
            found.append(f"{place} {teacher.model} in place of {name}")
    return found


def describe_stand_in(identity: RowIdentity, setting: Setting) -> str:
    """That the objective stands in for a method without a public specification."""
    if not setting.objective.endswith(STAND_IN):
        return ""
    return f"{setting.objective}, an approximation of {identity.method.partition(',')[0]}"


def find_printed_epochs(table: PrintedTable, identity: RowIdentity) -> int | None:
    """The epochs that the paper trains; None where it does not say."""
    if table.paper == "adaad":
        return ADAAD_EPOCHS.get(identity.method, 200) if identity.student else None
    if table.paper == "derd":
        return DERD_EPOCHS.get(identity.method)
    if table.paper == "dad" and identity.student.startswith("ViT"):
        return PRETRAINED_EPOCHS if table.table == "4" else SCRATCH_EPOCHS
    return None


def describe_epochs(printed: int | None, setting: Setting) -> str:
    """The epochs, where they are others than the paper's or it does not say."""
    if setting.epochs is None:
        return "from a file"
    if printed is None:
        return f"{setting.epochs} epochs (the paper does not say)"
    return "" if setting.epochs == printed else f"{setting.epochs} epochs in place of {printed}"


def describe_training_images(identity: RowIdentity, setting: Setting) -> str:
    """The number of training images, where they are not those of the complete data set."""
    known = TRAIN_COUNTS.get(identity.dataset)
    if (
        setting.train_count in (None, known)
        or known is None
        or setting.trained_on != setting.datasets
    ):
        return ""
    return f"{setting.train_count:,} of {known:,} training images"


def describe_inner_attack(setting: Setting) -> str:
    """The options of the attack in training that differ from the objective's defaults."""
    if not setting.objective:
        return ""
    objective = load_plugin("objectives", setting.objective).Objective
    defaults, norm = get_defaults(objective), name_norm(getattr(objective, "inner_attack", None))
    parts = [
        f"{name} {format_option(name, setting.options[name], norm)} in place of "
        f"{format_option(name, defaults[name], norm)}"
        for name in ATTACK_OPTIONS
        if name in defaults and setting.options[name] != defaults[name]
    ]
    return f"attack in training: {', '.join(parts)}" if parts else ""


def format_option(name: str, value: float, norm: str = "") -> str:
    """An option of an attack: a number of steps, or a radius or step size in grey levels.

    One in a ``norm`` other than L-infinity is a plain number: ``0.1 (L2)``.
    """
    if name == "steps":
        return f"{value}"
    return f"{value:.4g} ({norm})" if norm else f"{round(255 * value, 2):g}/255"


def describe_quoted_attacks(scores: Sequence[tuple[PrintedValue, Score]]) -> str:
    """The columns whose printed values are quoted from under attacks of more steps than ours."""
    quoted = [value for value, _ in scores if value.is_quoted and value.value is not None]
    found = [value.metric for value in quoted if value.metric in LONGER_IF_QUOTED]
    return f"attacks of 10 steps, quoted under 20 or more ({', '.join(found)})" if found else ""


def describe_test_images(scores: Sequence[tuple[PrintedValue, Score]]) -> str:
    """The numbers of test images that are not those of the complete test sets, by column."""
    columns: dict[str, list[str]] = {}
    for printed, ours in scores:
        known = TEST_COUNTS.get(printed.dataset)
        if known is not None and ours.image_count not in (None, known):
            columns.setdefault(f"{ours.image_count:,} of {known:,}", []).append(printed.metric)
    if len(columns) == 1:
        return f"{next(iter(columns))} test images"
    parts = [f"{count} ({', '.join(metrics)})" for count, metrics in columns.items()]
    return f"test images: {'; '.join(parts)}" if parts else ""
