"""Which code made an artefact, against the code of today."""

from pipeline.errors import RetortError
from pipeline.store.artifact import Job, Manifest
from pipeline.store.code_revisions import fingerprint, path_of, revision_of, revisions


def check_code(job: Job) -> None:
    """Refuse work that was planned for other code: its result would bear the wrong key.

    Raises:
        RetortError: naming the first module whose REVISION, or under `strict_code` whose text,
            is not what the key was made of.
    """
    if not job.modules:
        return
    now = revisions(*(module for module in job.modules if path_of(module)))
    remedy = "run snakemake anew, or go back to the code it was planned with"
    for module in sorted(job.code.keys() | now.keys()):
        then, today = job.code.get(module, "none"), now.get(module, "none")
        if then != today:
            what = f"was planned for {module} REVISION {then}, the code has {today}"
            raise RetortError(f"{job.folder}: {what}; {remedy}")
    if job.strict and fingerprint(*job.modules) != job.strict:
        raise RetortError(f"{job.folder}: strict_code: its modules were edited since; {remedy}")


def changes(manifest: Manifest) -> list[str]:
    """What of the code that made an artefact is otherwise today; empty where nothing is."""
    then = manifest.code
    now = {m: revision_of(m) if path_of(m) else None for m in then}
    revised = [f"{m} {then[m]} (now {now[m] or 'gone'})" for m in then if then[m] != now[m]]
    if revised or not manifest.fingerprint:
        return revised
    whole = all(path_of(module) for module in manifest.modules)
    if whole and fingerprint(*manifest.modules) == manifest.fingerprint:
        return []
    return ["the same revisions, but edited since"]
