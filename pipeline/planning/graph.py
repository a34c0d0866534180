"""A configuration's whole plan: every entry, then evaluations and the report over them."""

from pathlib import Path

from pipeline.config.reader import Config, parse
from pipeline.config.specs import spec_of
from pipeline.planning.entries import evaluation, report, student
from pipeline.planning.plan import Entry, Plan, check_store
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
        evaluation.add_suite(resolver, name, made, warm)
    if resolver.config.report is not None:
        report.add_report(resolver)


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
    if spec_of(first).seed == seed:
        return first
    return resolver.plan.add(student.entry(resolver, name, seed))


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
