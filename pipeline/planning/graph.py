"""A configuration's whole plan: every entry, then evaluations and the report over them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.config.reader import Config, parse
from pipeline.errors import RetortError
from pipeline.planning.compatibility.fits import check_size, classes, classes_of, counted, data_of
from pipeline.planning.entries import student
from pipeline.planning.plan import EPOCH, Entry, Plan, check_store, dumped
from pipeline.planning.resolver import SECTIONS, Resolver


def everything(resolver: Resolver) -> None:
    """Resolve every entry of the configuration, then evaluations and the report."""
    for section in SECTIONS:
        if section != "students":
            for name in getattr(resolver.config, section):
                resolver.get(section, name)
    warm = warm_ups(resolver)
    made = students(resolver)
    for name in resolver.config.suites:
        suite(resolver, name, made, warm)
    if resolver.config.report is not None:
        report(resolver)


def warm_ups(resolver: Resolver) -> list[tuple[Entry, str]]:
    """Every generator that warms a student up, one entry a seed, and its teacher's name."""
    return [
        (resolver.warm_up(name, seed, f"generators.{name}"), section.teacher)
        for name, section in resolver.config.generators.items()
        if section.warm
        for seed in section.seeds or (resolver.config.seed,)
    ]


def students(resolver: Resolver) -> list[Entry]:
    """Every student, one entry a seed."""
    return [
        seeded(resolver, name, seed)
        for name in resolver.config.students
        for seed in resolver.seeds(name)
    ]


def seeded(resolver: Resolver, name: str, seed: int) -> Entry:
    """One student of one seed."""
    first = resolver.get("students", name)
    if first.spec["seed"] == seed:
        return first
    return resolver.plan.add(student.entry(resolver, name, seed))


def suite(
    resolver: Resolver, name: str, students: list[Entry], warm: list[tuple[Entry, str]]
) -> None:
    """Evaluations of one suite."""
    suite = resolver.config.suites[name]
    models: dict[str, tuple[Entry, str]] = {}  # label -> artefact, classifier it descends from
    if "students" in suite.models:
        models |= {e.name: (e, e.name.rpartition("-")[0]) for e in students}
    if "teachers" in suite.models:
        models |= {n: (resolver.get("teachers", n), n) for n in resolver.config.teachers}
    if "generators" in suite.models:
        models |= {f"{e.name}-warm": (e, teacher) for e, teacher in warm}
    plugins = tuple(f"pipeline.attacks.{a}" for attack in suite.attacks for a in attack)
    plugins += ("pipeline.report.distribution_shift",) if suite.dataset else ()
    spec = {"attacks": dumped(suite)["attacks"], **resolver.common()}
    spec |= {"shifted": True} if suite.dataset else {}
    for label, model, base, asked in versions(models, suite.epochs, spec, f"suites.{name}.epochs"):
        data = tested_on(resolver, base, name)
        inputs = {"model": model, "dataset": data}
        if suite.surrogate is not None:
            inputs["surrogate"] = surrogate(resolver, name, base)
        resolver.plan.add(Entry("evaluation", f"{label}.{name}", asked, inputs, plugins))


def versions(
    models: dict[str, tuple[Entry, str]], epochs: tuple[int, ...], spec: dict, where: str
) -> Iterator[tuple[str, Entry, str, dict]]:
    """What a suite evaluates: label, artefact, the classifier it descends from, what is asked.

    With epochs, of each model those that its recipe keeps.

    Raises:
        RetortError: an epoch that no model keeps.
    """
    if not epochs:
        yield from ((label, *model, spec) for label, model in models.items())
    for epoch in epochs:
        if not any(keeps(model, epoch) for model, _ in models.values()):
            raise RetortError(
                f"{where}: no model of the suite keeps the weights of epoch {epoch}; add it to "
                "keep_epochs in the recipe of one"
            )
    asked = {epoch: spec | {"epoch": epoch} for epoch in epochs}
    for label, (model, base) in models.items():
        for epoch in filter(partial(keeps, model), epochs):
            yield f"{label}{EPOCH}{epoch}", model, base, asked[epoch]


def keeps(model: Entry, epoch: int) -> bool:
    """Whether a training leaves the weights after an epoch beside its last ones."""
    return epoch in (model.spec.get("recipe") or {}).get("keep_epochs", ())


def surrogate(resolver: Resolver, suite: str, model: str) -> Entry:
    """The model that a suite's attacks are made on, which must know what the attacked one knows."""
    config, where = resolver.config, f"suites.{suite}.surrogate"
    name = config.suites[suite].surrogate
    entry = resolver.classifier(name, where)
    known, own = classes(config, name), classes(config, model)
    if known != own:
        raise RetortError(
            f"{where}: '{name}' knows {len(known)} classes, '{model}' knows {counted(known, own)}; "
            "name a surrogate of the same classes, or other models"
        )
    check_size(config, where, name, data_of(config, name), data_of(config, model))
    return entry


def tested_on(resolver: Resolver, model: str, suite: str) -> Entry:
    """The data set that a model is evaluated on, which must have test images.

    It is the model's own, or the suite's, which must have the same classes and size of images.
    """
    config, where = resolver.config, f"suites.{suite}.dataset"
    own, given = data_of(config, model), config.suites[suite].dataset
    name = given or own
    data = resolver.get("datasets", name, where)
    if given and classes_of(config, given) != classes_of(config, own):
        raise RetortError(
            f"{where}: '{given}' has other classes than '{own}', which '{model}' knows; name a "
            "data set of these classes, or other models"
        )
    if given:
        check_size(config, where, model, own, given)
    if config.datasets[name].test == 0:
        raise RetortError(
            f"datasets.{name}.test: 0 images, but suite '{suite}' attacks '{model}' on them; "
            "ask for some"
        )
    return data


def report(resolver: Resolver) -> None:
    """The report over everything; the names it prints are part of its content."""
    names = [[f"{kind}/{name}", ref] for (kind, name), ref in resolver.plan.names.items()]
    spec = {**dumped(resolver.config.report), "names": names}
    inputs = dict(resolver.plan.entries)
    suites = resolver.config.suites.values()
    plugins = ("pipeline.report.shift_table",) if any(suite.dataset for suite in suites) else ()
    plugins += ("pipeline.report.epoch_table",) if any(suite.epochs for suite in suites) else ()
    plugins += (
        ("pipeline.report.boundary_table",) if any(suite.boundaries for suite in suites) else ()
    )
    if (study := resolver.config.report.wasserstein) is not None:
        resolver.classifier(study.network, "report.wasserstein.network")
        plugins += ("pipeline.report.distance_study",)
    resolver.plan.add(Entry("report", "report", spec, inputs, plugins))


def make_plan(config: Config) -> Plan:
    """Resolve a configuration into its artefacts.

    Raises:
        RetortError: a name that does not exist, a cycle, or entries that do not fit together.
    """
    run = config.run.model_dump(mode="json", exclude_none=True)
    plan = Plan(Path(config.store), run, strict_code=config.strict_code)
    everything(Resolver(config, plan))
    return plan


def plan_from(raw: dict) -> Plan:
    """The plan of a configuration given as plain dicts and lists, its store looked at."""
    plan = make_plan(parse(raw))
    check_store(plan.store)
    return plan
