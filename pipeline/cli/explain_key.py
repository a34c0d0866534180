"""The verb ``why``: what would run for an artefact, and how it differs from what is there.

A key changes with a field of the spec, with an input, or with a component's REVISION. The nearest
finished artefact of the same kind is the one with the fewest such differences.
"""

import argparse
from collections.abc import Iterator, Mapping

from pipeline.cli.find_planned import find_planned_ref, suggest_names
from pipeline.config.reader import read_config
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.store.artefact import JOB_FILE, MANIFEST_FILE, read_json
from pipeline.upkeep.listing import list_refs

ABSENT = "not given"
COMPARED = ("spec", "inputs", "code")  # the parts of a job file that its key stands for


def run_verb(options: argparse.Namespace) -> None:
    """Print the explanation.

    Raises:
        RetortError: the name means no artefact of the configuration, or several.
    """
    plan = make_plan(read_config(*options.configfile))
    ref = find_planned_ref(plan, options.name)
    if ref is None:
        raise RetortError(
            f"{options.name}: the configuration has none{suggest_names(plan, options.name)}"
        )
    print("\n".join(explain_artefact(plan, ref)))


def explain_artefact(plan: Plan, ref: str) -> Iterator[str]:
    """What would run, then what is different from the nearest finished artefact."""
    entry = plan.artefacts[ref]
    if plan.is_complete(ref):
        yield f"{describe(plan, ref)}: made; nothing would run for it"
        return
    yield f"{describe(plan, ref)}: not made; 'retort run' makes it"
    for missing in list_missing_inputs(plan, ref):
        yield f"  and before it {describe(plan, missing)}"
    finished = read_finished_jobs(plan, entry.kind)
    nearest = find_nearest(plan.describe_job(ref), finished)
    if nearest is None:
        yield f"no finished {entry.kind} is in {plan.store}"
        return
    yield f"nearest finished: {entry.kind} {nearest['name']} ({nearest['key']}), which differs in"
    yield from (f"  {line}" for line in explain_difference(plan, ref, nearest))


def describe(plan: Plan, ref: str) -> str:
    """`kind name (key)`."""
    entry = plan.artefacts[ref]
    return f"{entry.kind} {entry.name} ({entry.key})"


def list_missing_inputs(plan: Plan, ref: str) -> list[str]:
    """Direct and indirect inputs that are not made, in the order of the plan."""
    missing, waiting = set(), [ref]
    while waiting:
        for source in plan.artefacts[waiting.pop()].inputs.values():
            if source.ref not in missing and not plan.is_complete(source.ref):
                missing.add(source.ref)
                waiting.append(source.ref)
    return [each for each in plan.artefacts if each in missing]


def read_finished_jobs(plan: Plan, kind: str) -> list[dict]:
    """The job files of the finished artefacts of a kind, of whichever configuration."""
    folders = [plan.store / ref for ref in list_refs(plan.store) if ref.startswith(f"{kind}/")]
    remedy = "see 'retort verify --all'"
    return [
        read_json(folder / JOB_FILE, remedy)
        for folder in folders
        if (folder / MANIFEST_FILE).exists() and (folder / JOB_FILE).exists()
    ]


def find_nearest(job: dict, others: list[dict]) -> dict | None:
    """The job with the fewest differences; among equals one of the same name."""
    return min(
        others,
        key=lambda other: (count_differences(job, other), other["name"] != job["name"]),
        default=None,
    )


def count_differences(job: dict, other: dict) -> int:
    """Number of fields, inputs and components that differ."""
    return sum(len(list(list_differences(job[part], other[part]))) for part in COMPARED)


def explain_difference(plan: Plan, ref: str, other: dict) -> Iterator[str]:
    """A line for each difference; an input is followed by what differs in it."""
    job = plan.describe_job(ref)
    for path, here, there in list_differences(job["spec"], other["spec"]):
        yield f"{path}: {here} here, {there} there"
    yield from explain_code(job["code"], other["code"])
    if job["strict"] != other.get("strict", ""):
        yield "strict_code: the text of its components differs"
    for role, here, there in list_differences(job["inputs"], other["inputs"]):
        yield f"input {role}: {here} here, {there} there"
        path = plan.store / str(there) / JOB_FILE
        if here != ABSENT and path.exists():
            source = read_json(path, "see 'retort verify --all'")
            yield from (f"  {line}" for line in explain_difference(plan, here, source))


def explain_code(here: dict[str, int], there: dict[str, int]) -> Iterator[str]:
    """Components of another REVISION, each on a line, then those that one of the two lacks."""
    for module, ours, theirs in list_differences(here, there):
        if ABSENT not in (ours, theirs):
            yield f"code {module}: REVISION {ours} here, {theirs} there"
    for where, some, others in (("here", here, there), ("there", there, here)):
        if lone := [module.removeprefix("pipeline.") for module in some if module not in others]:
            yield f"code only {where}: {', '.join(lone)}"


def list_differences(here: Mapping, there: Mapping, prefix: str = "") -> Iterator[tuple]:
    """Path, value here and value there of all that differs; a part that one lacks is one path."""
    for name in dict.fromkeys([*here, *there]):
        ours, theirs = here.get(name, ABSENT), there.get(name, ABSENT)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            yield from list_differences(ours, theirs, f"{prefix}{name}.")
        elif ours != theirs:
            yield f"{prefix}{name}", ours, theirs
