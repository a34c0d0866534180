"""Evaluations: a suite of attacks on one model."""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from pipeline.config.plugin_fields import pin_attack_files
from pipeline.config.reader import Config
from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import explain_bad_settings
from pipeline.errors import RetortError, prefix_errors
from pipeline.planning.compatibility.fits import (
    check_image_shape,
    describe_class_count,
    get_image_shape,
    list_dataset_classes,
)
from pipeline.planning.compatibility.students import (
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
from pipeline.planning.entries.transfers import plan_suite_transfers
from pipeline.planning.plan import EPOCH_SEPARATOR, PlannedArtefact
from pipeline.planning.resolver import Resolver
from pipeline.planning.suite_data import resolve_test_dataset
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
    common = COMPONENTS + (OPTIONAL["dataset"] if suite.dataset else ())
    components = (*common, *list_attack_modules(suite.attacks))
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
    plan_suite_transfers(resolver, name, models, spec, plugins, common)


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
