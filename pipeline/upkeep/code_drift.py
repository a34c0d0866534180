"""Comparison of the code that made an artefact with today's code."""

from collections.abc import Iterable

from pipeline.errors import RetortError
from pipeline.store.artefact import Job, Manifest
from pipeline.store.code_revisions import compute_fingerprint, find_module_file, read_revision


def check_code(job: Job) -> None:
    """Refuse a job that was planned with other code: its result would have the wrong key.

    Raises:
        RetortError: names the first module whose REVISION differs from the one in the key; under
            `strict_code` it is raised for edited text too.
    """
    now = read_revisions_now(job.code)
    remedy = "run snakemake anew, or go back to the code it was planned with"
    for module, then in sorted(job.code.items()):
        today = now[module] or "none"
        if then != today:
            what = f"was planned for {module} REVISION {then}, the code has {today}"
            raise RetortError(f"{job.folder}: {what}; {remedy}")
    if job.strict and compute_fingerprint(*job.code) != job.strict:
        raise RetortError(f"{job.folder}: strict_code: its components were edited since; {remedy}")


def list_code_changes(manifest: Manifest) -> list[str]:
    """Differences between the code that made an artefact and today's; empty without any."""
    then = manifest.code
    now = read_revisions_now(then)
    revised = [f"{m} {then[m]} (now {now[m] or 'gone'})" for m in then if then[m] != now[m]]
    if revised or not manifest.fingerprint:
        return revised
    if compute_fingerprint(*then) == manifest.fingerprint:
        return []
    return ["the same revisions, but edited since"]


def lost_modules(manifest: Manifest) -> list[str]:
    """Modules that made an artefact and no longer exist, sorted."""
    return sorted(module for module in manifest.code if not find_module_file(module))


def read_revisions_now(modules: Iterable[str]) -> dict[str, int | None]:
    """Today's REVISION of each module; None if it has none or no longer exists."""
    return {
        module: read_revision(module) if find_module_file(module) else None for module in modules
    }
