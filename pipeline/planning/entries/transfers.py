"""Transfer attacks on a suite's models: those of a preset, and on models without gradients."""

import logging
from collections.abc import Mapping

from pipeline.config.plugin_fields import collect_key_options
from pipeline.config.reader import Config
from pipeline.config.suites import ADDED_IMAGES, DEFAULT_EPS, GRADIENT_ATTACKS
from pipeline.core.attack_protocol import list_radii
from pipeline.planning.compatibility.fits import get_image_shape, list_dataset_classes
from pipeline.planning.compatibility.students import find_class_source
from pipeline.planning.components import list_attack_modules
from pipeline.planning.gradient_trial import has_misleading_gradients
from pipeline.planning.plan import PlannedArtefact
from pipeline.planning.resolver import Resolver
from pipeline.planning.suite_data import resolve_test_dataset
from pipeline.schema import make_plugin

log = logging.getLogger("retort.plan")


def plan_suite_transfers(
    resolver: Resolver,
    name: str,
    models: dict[str, tuple[PlannedArtefact, str]],
    spec: dict,
    attacks: list[tuple[str, object]],
    common: tuple[str, ...],
) -> None:
    """Plan the transfers of a preset, and those to models whose gradients mislead.

    Args:
        models: those of the suite: artefact, and the data set whose classes it knows.
        spec: what the suite's evaluations have in their specs.
        attacks: place and plug-in of the suite's attacks.
        common: components of its evaluations beside the attacks' own.
    """
    suite = resolver.config.suites[name]
    if suite.preset is not None:
        radii = {DEFAULT_EPS if suite.eps is None else suite.eps: suite.n_eval}
        plan_transfers(resolver, name, models, spec, make_transfer_attacks(radii), common)
    elif suite.surrogate is None and not suite.epochs:
        radii = collect_attacked_radii(attacks)
        misled = find_misled_models(resolver.config, models) if radii else {}
        if not misled:
            return
        told = plan_transfers(resolver, name, misled, spec, make_transfer_attacks(radii), common)
        for label, others in told.items():
            log.info("suites.%s: %s", name, describe_added_attacks(label, others))


def collect_attacked_radii(attacks: list[tuple[str, object]]) -> dict[float, int]:
    """The largest radius of each attack by gradients, with the images that transfers see there."""
    radii: dict[float, int] = {}
    for place, attack in attacks:
        if place.rpartition(".")[2] in GRADIENT_ATTACKS:
            count = min(attack.n_eval or ADDED_IMAGES, ADDED_IMAGES)
            eps = max(list_radii(attack.eps))
            radii[eps] = max(count, radii.get(eps, 0))
    return {eps: count for eps, count in radii.items() if eps > 0}


def find_misled_models(
    config: Config, models: dict[str, tuple[PlannedArtefact, str]]
) -> dict[str, tuple[PlannedArtefact, str]]:
    """The models of a suite on which attacks by gradients cannot be trusted."""
    return {
        label: (model, own)
        for label, (model, own) in models.items()
        if has_misleading_gradients(config, model, own)
    }


def describe_added_attacks(label: str, others: list[str]) -> str:
    """What a model whose gradients mislead gets beside a suite's attacks, in a line."""
    if others:
        return f"gradients of '{label}' mislead: adds Square, and PGD-20 from {', '.join(others)}"
    return (
        f"gradients of '{label}' mislead: adds Square, but no transfer attack, since no other "
        "model knows its classes and has gradients; add a teacher that does"
    )


def make_transfer_attacks(radii: Mapping[float, int | None]) -> list[dict]:
    """PGD-20 at each radius on a number of first images, None for all, as a spec has it."""
    attacks = []
    for eps, count in radii.items():
        options = {"eps": eps, "step": eps / 4} | ({} if count is None else {"n_eval": count})
        attack = make_plugin("attacks", "Attack", "pgd", options)
        attacks.append({"pgd": collect_key_options(attack)})
    return attacks


def plan_transfers(
    resolver: Resolver,
    suite: str,
    models: dict[str, tuple[PlannedArtefact, str]],
    asked: dict,
    attacks: list[dict],
    common: tuple[str, ...],
) -> dict[str, list[str]]:
    """Plan attacks on a suite's models from every other model of the same classes.

    A model whose own gradients mislead is no surrogate. Returns the surrogates of each model.
    """
    config, spec = resolver.config, asked | {"attacks": attacks}
    components = (*common, *list_attack_modules(attacks))
    found: dict[str, list[str]] = {label: [] for label in models}
    surrogates = list_surrogates(resolver)
    for label, (model, own) in models.items():
        data = resolve_test_dataset(resolver, label, own, suite)
        for source, (surrogate, known) in surrogates.items():
            if surrogate.ref == model.ref or not are_comparable(config, known, own):
                continue
            if has_misleading_gradients(config, surrogate, known):
                continue
            inputs = {"model": model, "dataset": data, "surrogate": surrogate}
            name = f"{label}.{suite}-from-{source}"
            resolver.plan.add_artefact(
                PlannedArtefact("evaluation", name, spec, inputs, components)
            )
            found[label].append(source)
    return found


def list_surrogates(resolver: Resolver) -> dict[str, tuple[PlannedArtefact, str]]:
    """Every teacher and student: the artefact, and the data set whose classes it knows."""
    config = resolver.config
    found = {
        name: (resolver.resolve_name("teachers", name), teacher.dataset)
        for name, teacher in config.teachers.items()
    }
    for name, student in config.students.items():
        artefact = resolver.resolve_name("students", name)
        label = label_surrogate(config, name, artefact)
        found[label] = artefact, find_class_source(config, student)
    return found


def label_surrogate(config: Config, student: str, artefact: PlannedArtefact) -> str:
    """A student's name among those of all surrogates.

    One with the name of a teacher is told apart by its seed, `natural-0`; by its kind as well where
    that is the name of another teacher or student.
    """
    if student not in config.teachers:
        return student
    is_taken = artefact.name in {**config.teachers, **config.students}
    return f"{artefact.name} (student)" if is_taken else artefact.name


def are_comparable(config: Config, first: str, second: str) -> bool:
    """Whether two data sets have the same classes and images of one shape."""
    same = list_dataset_classes(config, first) == list_dataset_classes(config, second)
    return same and get_image_shape(config, first) == get_image_shape(config, second)
