"""Which code made an artefact, against the code of today."""

from collections.abc import Iterable

from pipeline.errors import RetortError
from pipeline.store.artifact import Job, Manifest
from pipeline.store.code_revisions import fingerprint, path_of, revision_of


def check_code(job: Job) -> None:
    """Refuse work that was planned for other code: its result would bear the wrong key.

    Raises:
        RetortError: naming the first module whose REVISION, or under `strict_code` whose text,
            is not what the key was made of.
    """
    now = revisions_now(job.code)
    remedy = "run snakemake anew, or go back to the code it was planned with"
    for module, then in sorted(job.code.items()):
        today = now[module] or "none"
        if then != today:
            what = f"was planned for {module} REVISION {then}, the code has {today}"
            raise RetortError(f"{job.folder}: {what}; {remedy}")
    if job.strict and fingerprint(*job.code) != job.strict:
        raise RetortError(f"{job.folder}: strict_code: its components were edited since; {remedy}")


def changes(manifest: Manifest) -> list[str]:
    """What of the code that made an artefact is otherwise today; empty where nothing is."""
    then = manifest.code
    now = revisions_now(then)
    revised = [f"{m} {then[m]} (now {now[m] or 'gone'})" for m in then if then[m] != now[m]]
    if revised or not manifest.fingerprint:
        return revised
    if fingerprint(*then) == manifest.fingerprint:
        return []
    return ["the same revisions, but edited since"]


def lost_modules(manifest: Manifest) -> list[str]:
    """Modules that made an artefact and that today's package does not have, sorted."""
    return sorted(module for module in manifest.code if not path_of(module))


def revisions_now(modules: Iterable[str]) -> dict[str, int | None]:
    """Today's REVISION of each module, None where it has none or is gone."""
    return {module: revision_of(module) if path_of(module) else None for module in modules}
