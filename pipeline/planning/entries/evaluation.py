"""Evaluations: a suite of attacks on one model."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from pipeline.config.plugin_fields import collect_key_options, pin_attack_files
from pipeline.config.reader import Config
from pipeline.config.specs import get_spec
from pipeline.config.suites import ADDED_IMAGES, DEFAULT_EPS, GRADIENT_ATTACKS
from pipeline.core.attack_protocol import explain_bad_settings, list_radii
from pipeline.errors import RetortError, prefix_errors
from pipeline.planning.compatibility.fits import (
    check_image_shape,
    describe_class_count,
    describe_class_difference,
    get_image_shape,
    list_dataset_classes,
)
from pipeline.planning.compatibility.students import (
    find_class_source,
    find_model_dataset,
    list_model_classes,
)
from pipeline.planning.components import (
    CLASSIFIER,
    DATA,
    IN_DATASET_KEY,
    IN_MODEL_KEY,
    list_attack_modules,
)
from pipeline.planning.gradient_trial import has_misleading_gradients
from pipeline.planning.plan import EPOCH_SEPARATOR, PlannedArtefact
from pipeline.planning.resolver import Resolver
from pipeline.planning.suite_models import choose_models, list_candidates
from pipeline.schema import dump_section, make_plugin

log = logging.getLogger("retort.plan")

COMPONENTS = (
    *CLASSIFIER,
    *DATA,
    "pipeline.core.attack_protocol",
    "pipeline.core.seeding",
    "pipeline.models.output_checks",
    "pipeline.stages.evaluate",
)
OPTIONAL = {"dataset": ("pipeline.report.distribution_shift",)}
EXEMPT = {
    "pipeline.report.attack_labels": "the log's words alone",
    "pipeline.core.augment": "random crops are cut in training, not here",
    "pipeline.core.pgd": "freezes a CLIP while it loads",
    "pipeline.core.threat_models": "likewise",
    **IN_DATASET_KEY,
    **IN_MODEL_KEY,
}


def plan_evaluations(
    resolver: Resolver,
    name: str,
    students: list[PlannedArtefact],
    warm_generators: list[tuple[PlannedArtefact, str]],
) -> None:
    """Plan the evaluations of one suite."""
    suite = resolver.config.suites[name]
    candidates = list_candidates(resolver, students, warm_generators)
    models = choose_models(resolver, name, candidates)
    components = (*COMPONENTS, *list_attack_modules(suite.attacks))
    components += OPTIONAL["dataset"] if suite.dataset else ()
    with prefix_errors(f"suites.{name}.attacks."):
        data = Path(resolver.plan.run["data"])
        attacks, outside = pin_attack_files(dump_section(suite)["attacks"], data)
    spec = {"attacks": attacks, **resolver.make_common_spec()}
    spec |= {"shifted": True} if suite.dataset else {}
    plugins = make_suite_attacks(suite.attacks)
    variants: dict[str, list[str]] = {}  # what an attack does instead -> models
    for label, model, own, asked in iterate_evaluated_models(
        models, suite.epochs, spec, f"suites.{name}.epochs"
    ):
        data = resolve_test_dataset(resolver, label, own, name)
        for line in check_attacks(resolver.config, name, label, own, plugins):
            variants.setdefault(line, []).append(label)
        inputs = {"model": model, "dataset": data}
        if suite.surrogate is not None:
            inputs["surrogate"] = resolve_surrogate(resolver, name, label, own)
        resolver.plan.add_artefact(
            PlannedArtefact("evaluation", f"{label}.{name}", asked, inputs, components, outside)
        )
    for line, labels in variants.items():
        log.info("%s (%s)", line, ", ".join(labels))
    plan_suite_transfers(resolver, name, models, spec, plugins)


def plan_suite_transfers(
    resolver: Resolver,
    name: str,
    models: dict[str, tuple[PlannedArtefact, str]],
    spec: dict,
    attacks: list[tuple[str, object]],
) -> None:
    """Plan the transfers of a preset, and those to models whose gradients mislead."""
    suite = resolver.config.suites[name]
    if suite.preset is not None:
        radii = {DEFAULT_EPS if suite.eps is None else suite.eps: suite.n_eval}
        plan_transfers(resolver, name, models, spec, make_transfer_attacks(radii))
    elif suite.surrogate is None and not suite.epochs:
        radii = collect_attacked_radii(attacks)
        misled = find_misled_models(resolver.config, models) if radii else {}
        told = plan_transfers(resolver, name, misled, spec, make_transfer_attacks(radii))
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
) -> dict[str, list[str]]:
    """Plan attacks on a suite's models from every other model of the same classes.

    A model whose own gradients mislead is no surrogate. Returns the surrogates of each model.
    """
    config, spec = resolver.config, asked | {"attacks": attacks}
    components = (*COMPONENTS, *list_attack_modules(attacks))
    components += OPTIONAL["dataset"] if config.suites[suite].dataset else ()
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
    """Every teacher and student: the artefact, and the data set whose classes it knows.

    A student with the name of a teacher is told apart by its seed: `natural-0`.
    """
    config = resolver.config
    found = {
        name: (resolver.resolve_name("teachers", name), teacher.dataset)
        for name, teacher in config.teachers.items()
    }
    for name, student in config.students.items():
        artefact = resolver.resolve_name("students", name)
        label = artefact.name if name in config.teachers else name
        found[label] = artefact, find_class_source(config, student)
    return found


def are_comparable(config: Config, first: str, second: str) -> bool:
    """Whether two data sets have the same classes and images of one shape."""
    same = list_dataset_classes(config, first) == list_dataset_classes(config, second)
    return same and get_image_shape(config, first) == get_image_shape(config, second)


def make_suite_attacks(attacks: Iterable[dict]) -> list[tuple[str, object]]:
    """A suite's attacks: place in the suite and plug-in."""
    entries = [next(iter(entry.items())) for entry in attacks]
    return [
        (f"attacks.{number}.{name}", make_plugin("attacks", "Attack", name, options))
        for number, (name, options) in enumerate(entries)
    ]


def check_attacks(
    config: Config, suite: str, label: str, own: str, attacks: list[tuple[str, object]]
) -> list[str]:
    """What attacks do on a model of data set ``own`` other than their names say, a line each.

    Raises:
        RetortError: an attack does not suit the test images, or the number of a model's classes.
    """
    shape = get_image_shape(config, config.suites[suite].dataset or own)
    class_count = len(list_dataset_classes(config, own))
    lines = []
    for place, attack in attacks:
        if fault := explain_bad_settings(attack, shape):
            raise RetortError(f"suites.{suite}.{place}.{fault}")
        explain = getattr(attack, "explain_misfit", None)
        if explain is not None and (why := explain(shape, class_count)):
            raise RetortError(f"suites.{suite}.{place}: on '{label}': {why}")
        explain = getattr(attack, "explain_variant", None)
        if explain is not None and (what := explain(shape, class_count)):
            lines.append(f"suites.{suite}.{place}: {what}")
    return lines


def iterate_evaluated_models(
    models: dict[str, tuple[PlannedArtefact, str]], epochs: tuple[int, ...], spec: dict, where: str
) -> Iterator[tuple[str, PlannedArtefact, str, dict]]:
    """What a suite evaluates: label, artefact, the data set whose classes it knows, and spec.

    With epochs, each model is evaluated at those that its recipe keeps.

    Raises:
        RetortError: no model keeps the weights of an epoch.
    """
    if not epochs:
        yield from ((label, *model, spec) for label, model in models.items())
    for epoch in epochs:
        if not any(keeps_epoch(model, epoch) for model, _ in models.values()):
            raise RetortError(
                f"{where}: no model of the suite keeps the weights of epoch {epoch}; add it to "
                "keep_epochs in the recipe of one"
            )
    asked = {epoch: spec | {"epoch": epoch} for epoch in epochs}
    for label, (model, own) in models.items():
        for epoch in filter(partial(keeps_epoch, model), epochs):
            yield f"{label}{EPOCH_SEPARATOR}{epoch}", model, own, asked[epoch]


def keeps_epoch(model: PlannedArtefact, epoch: int) -> bool:
    """Whether a training keeps the weights of an epoch, beside its last ones."""
    return epoch in get_spec(model).recipe.keep_epochs


def resolve_surrogate(resolver: Resolver, suite: str, model: str, own: str) -> PlannedArtefact:
    """The model that a suite's attacks are computed on; it must know the classes of ``own``."""
    config, where = resolver.config, f"suites.{suite}.surrogate"
    name = config.suites[suite].surrogate
    entry = resolver.resolve_classifier(name, where)
    known, wanted = list_model_classes(config, name), list_dataset_classes(config, own)
    if known != wanted:
        raise RetortError(
            f"{where}: '{name}' knows {len(known)} classes, '{model}' knows "
            f"{describe_class_count(known, wanted)}; "
            "name a surrogate of the same classes, or other models"
        )
    check_image_shape(config, where, name, find_model_dataset(config, name), own)
    return entry


def resolve_test_dataset(resolver: Resolver, model: str, own: str, suite: str) -> PlannedArtefact:
    """The data set that a model is evaluated on, which must have test images.

    It is the model's ``own`` or the suite's, whose classes and image size must be the same.
    """
    config, where = resolver.config, f"suites.{suite}.dataset"
    given = config.suites[suite].dataset
    name = given or own
    data = resolver.resolve_name("datasets", name, where)
    known = list_dataset_classes(config, own)
    if given and (found := list_dataset_classes(config, given)) != known:
        raise RetortError(
            f"{where}: '{given}' has other classes than '{own}', which '{model}' knows "
            f"({describe_class_difference(found, known)}); name a data set of these classes, or "
            "other models"
        )
    if given:
        check_image_shape(config, where, model, own, given)
    if config.datasets[name].test == 0:
        raise RetortError(
            f"datasets.{name}.test: 0 images, but suite '{suite}' attacks '{model}' on them; "
            "ask for some"
        )
    return data
