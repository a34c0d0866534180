"""Where each number comes from: what the page shows of an artefact when its key is followed."""

import html
import re

import yaml

from pipeline.report.outcomes import ModelGroup, Study
from pipeline.report.results.rows import Measurements
from pipeline.store.artefact import STAGES_BY_KIND, Artefact
from pipeline.store.attempt_cost import read_attempt_record

REVISION = 1

MOST_SOURCES = 8  # evaluations that a row names on hover
ROW_PATTERN = re.compile(
    r"<tr>\s*<td[^>]*>(?P<name>[^<]+)</td>"
    r"(?:\s*<td[^>]*>(?P<role>(?:CLIP )?(?:student|teacher))</td>)?"
)
KEY_PATTERN = re.compile(r"(?<=[>/])[0-9a-f]{12}(?=[<)])")  # alone in a cell, or after its kind
ENVIRONMENT = ("python", "torch", "host", "threads", "gpus")


def collect_provenance(study: Study) -> dict[str, dict]:
    """What is shown of each artefact, by key: a title, rows of label and text, and its inputs."""
    names: dict[str, list[str]] = {}
    for name, ref in study.refs_by_name.items():
        names.setdefault(ref, []).append(name)
    return {
        artefact.manifest.key: describe_artefact(study, ref, artefact, names.get(ref, []))
        for ref, artefact in study.artefacts.items()
    }


def describe_artefact(study: Study, ref: str, artefact: Artefact, names: list[str]) -> dict:
    """The title, rows and inputs of one artefact."""
    manifest = artefact.manifest
    revisions = {m.removeprefix("pipeline."): r for m, r in sorted(manifest.code.items())}
    rows = {
        "seed": str(manifest.spec["seed"]) if "seed" in manifest.spec else "",
        "make it again": f"retort {STAGES_BY_KIND[manifest.kind]} {locate(artefact)}",
        "look at it": f"retort show {ref}",
        "spec": dump(manifest.spec),
        "code revisions": ", ".join(f"{module} {number}" for module, number in revisions.items()),
        "code fingerprint": manifest.fingerprint,
        "environment": describe_environment(artefact),
        "facts": dump(manifest.facts),
        "files": "\n".join(
            f"{name}  {about['bytes']:,} bytes  sha256 {about['sha256']}"
            for name, about in manifest.files.items()
        ),
    }
    return {
        "title": " = ".join(names) or ref,
        "key": manifest.key,
        "rows": [[label, text] for label, text in rows.items() if text],
        "inputs": [[role, key, study.find_name(key)] for role, key in manifest.inputs.items()],
    }


def link_artefacts(body: str, study: Study, measurements: Measurements) -> str:
    """HTML in which each row of a model names its evaluations on hover, and each key is a link.

    A row is a model's if its first cell is the model's name; a second cell may be its role.
    """
    models = {(g.name, g.kind): g for g in reversed(study.groups)}
    by_label = {study.label_group(group): group for group in reversed(study.groups)}
    keys = {artefact.manifest.key for artefact in study.artefacts.values()}

    def link_row(match: re.Match) -> str:
        name, role = html.unescape(match["name"]), (match["role"] or "").rpartition(" ")[2]
        group = models.get((name, role)) or by_label.get(name)
        if group is None:
            return match[0]
        hover = html.escape(describe_sources(group, measurements))
        link = f'<a href="#artefact-{group.members[0].manifest.key}">{match["name"]}</a>'
        start, end = (place - match.start() for place in match.span("name"))
        opened = match[0][:start].replace("<tr>", f'<tr title="{hover}">')
        return f"{opened}{link}{match[0][end:]}"

    body = ROW_PATTERN.sub(link_row, body)
    return KEY_PATTERN.sub(
        lambda m: f'<a href="#artefact-{m[0]}">{m[0]}</a>' if m[0] in keys else m[0], body
    )


def describe_sources(group: ModelGroup, measurements: Measurements) -> str:
    """A model's seeds with their keys, and the evaluations that its numbers come from."""
    members = [f"seed {m.manifest.spec.get('seed', '–')} {m.manifest.key}" for m in group.members]
    own = {member.manifest.key for member in group.members}
    found = dict.fromkeys(
        f"{m.evaluation.manifest.name} {m.evaluation.manifest.key}"
        for (key, _, _), points in measurements.items()
        if key in own
        for m in points.values()
    )
    shown = [*found][:MOST_SOURCES] + (["…"] if len(found) > MOST_SOURCES else [])
    return f"{group.name}: {', '.join(members)}; evaluations: {', '.join(shown) or 'none'}"


def locate(artefact: Artefact) -> str:
    """The artefact's folder, seen from the folder that holds the store."""
    return "/".join(artefact.folder.parts[-3:])


def dump(values: dict) -> str:
    """Values as YAML; empty without any."""
    if not values:
        return ""
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=88).rstrip()


def describe_environment(artefact: Artefact) -> str:
    """Versions, machine, threads and seconds of each attempt, the same ones once."""
    paths = sorted((artefact.folder / "attempts").glob("*.json"))
    records = [record for path in paths if (record := read_attempt_record(path)) is not None]
    lines = [", ".join(f"{name} {r[name]}" for name in ENVIRONMENT if r.get(name)) for r in records]
    seconds, cpu_seconds = (sum(r[name] for r in records) for name in ("seconds", "cpu_seconds"))
    total = f"{seconds:,.0f} s, {cpu_seconds:,.0f} CPU-seconds"
    return "\n".join([*dict.fromkeys(lines), total]) if records else ""
