"""The plan of a configuration: every section, then the evaluations and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.reader import Config, parse_config, read_config
from pipeline.config.specs import get_spec
from pipeline.discovery import (
    is_installed,
    load_plugin,
    name_plugin_faults,
    use_plugin_folders,
)
from pipeline.errors import RetortError
from pipeline.planning.compatibility.checkpoints import check_checkpoints
from pipeline.planning.entries import evaluation, report, student
from pipeline.planning.plan import Plan, PlannedArtefact, check_store, find_existing_place
from pipeline.planning.resolver import SECTION_MODULES, Resolver

GRAD_CAM = "darwin.4"  # the figure that needs an optional package


def resolve_configuration(resolver: Resolver) -> None:
    """Resolve every section of the configuration, then its evaluations and its report."""
    for section in SECTION_MODULES:
        if section != "students":
            for name in getattr(resolver.config, section):
                resolver.resolve_name(section, name)
    warm = resolve_warm_generators(resolver)
    made = resolve_students(resolver)
    for name in resolver.config.suites:
        evaluation.plan_evaluations(resolver, name, made, warm)
    if resolver.config.report is not None:
        report.plan_report(resolver, made, warm)


def resolve_warm_generators(resolver: Resolver) -> list[tuple[PlannedArtefact, str]]:
    """Every generator that warms up a student, one per seed, with its teacher's name."""
    return [
        (resolver.resolve_warm_generator(name, seed, f"generators.{name}"), section.teacher)
        for name, section in resolver.config.generators.items()
        if section.warm
        for seed in section.seeds or (resolver.config.seed,)
    ]


def resolve_students(resolver: Resolver) -> list[PlannedArtefact]:
    """Every student, one planned artefact per seed."""
    return [
        resolve_seeded_student(resolver, name, seed)
        for name in resolver.config.students
        for seed in resolver.list_seeds(name)
    ]


def resolve_seeded_student(resolver: Resolver, name: str, seed: int) -> PlannedArtefact:
    """The student of one seed."""
    first = resolver.resolve_name("students", name)
    if get_spec(first).seed == seed:
        return first
    return resolver.plan.add_artefact(student.plan_artefact(resolver, name, seed))


def make_plan(config: Config) -> Plan:
    """The plan of a configuration.

    Raises:
        RetortError: the store's path cannot be used, a name does not exist, there is a cycle, or
            sections do not fit together. If the configuration was read from files, the message
            begins with file and line.
    """
    run = config.run.model_dump(mode="json", exclude_none=True)
    store = Path(config.store)
    plan = Plan(store, run, strict_code=config.strict_code, plugin_folders=config.plugins)
    with config.source.locate_errors(), name_plugin_faults():
        find_existing_place(store)
        use_plugin_folders(map(Path, config.plugins))
        resolve_configuration(Resolver(config, plan))
        check_checkpoints(config, plan)
    return plan


def make_plan_from_files(*paths: Path, given: Mapping[str, Any] | None = None) -> Plan:
    """The plan of a configuration in files, as ``read_config`` reads it, to be run.

    Raises:
        RetortError: as in ``read_config``, ``check_store`` and ``make_plan``, or a package is not
            installed.
    """
    config = read_config(*paths, given=given)
    with config.source.locate_errors():
        check_store(Path(config.store))
    plan = make_plan(config)
    with config.source.locate_errors():
        check_packages(plan)
    return plan


def check_packages(plan: Plan) -> None:
    """Raise if a tracker, or an evaluation or report not made yet, needs a missing package."""
    for name in plan.run["logging"]:
        if not is_installed(name):
            raise RetortError(
                f"run.logging: {name} is not installed; pip install '/path/to/retort[{name}]', or "
                "drop it"
            )
    for ref, entry in plan.artefacts.items():
        if GRAD_CAM in entry.spec.get("figures", ()) and not plan.is_complete(ref):
            check_grad_cam()
        if entry.kind != "evaluation" or plan.is_complete(ref):
            continue
        for name in (name for attack in entry.spec["attacks"] for name in attack):
            needed = getattr(load_plugin("attacks", name), "NEEDED_PACKAGE", None)
            if needed is not None and not is_installed(needed[0]):
                raise RetortError(
                    f"suites.{entry.name.rpartition('.')[2]}: attack '{name}' needs a package that "
                    f"is not installed; {needed[1]}, or drop the attack"
                )


def check_grad_cam() -> None:
    """Raise if the package that draws heat maps is not installed."""
    if not is_installed("pytorch_grad_cam"):
        raise RetortError(
            f"report.figures: {GRAD_CAM} needs a package that is not installed; pip install "
            "'/path/to/retort[gradcam]', or drop the figure"
        )


def make_plan_from_dict(raw: dict) -> Plan:
    """The plan of a configuration given as plain dicts and lists; its store must be writable."""
    config = parse_config(raw)
    check_store(Path(config.store))
    return make_plan(config)
