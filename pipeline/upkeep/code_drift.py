"""Comparison of the code that made an artefact with today's code."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.contracts.own_files import is_own, show_path
from pipeline.discovery import use_plugin_folders
from pipeline.errors import RetortError
from pipeline.planning.plan import OWN_MODELS
from pipeline.store.artefact import JOB_FILE, Job, Manifest, read_json
from pipeline.store.code_revisions import compute_fingerprint, find_module_file, read_revision


def use_job_plugins(job: Job) -> None:
    """Makes the user's own plug-ins known that a job was planned with.

    Raises:
        RetortError: their folder is gone, or a file in it has changed since.
    """
    plugins = job.run.get("plugins", {"folders": [], "content": {}})
    use_plugin_folders(list_safe_folders(plugins["folders"], job.folder))
    check_own_content(plugins["content"], f"{job.folder}: ", "run 'retort run' to plan it anew")


def use_saved_plugins(folder: Path, manifest: Manifest, folders: Iterable[Path] | None) -> None:
    """Makes the user's own architecture of a finished model known; without one, does nothing.

    Args:
        folders: where it lies; None: where it lay when the model was made, unless the folders in
            use have it.

    Raises:
        RetortError: it is not there, or has changed since.
    """
    content = {m: d for m, d in manifest.code.items() if m.startswith(OWN_MODELS)}
    if not content:
        return
    remedy = "give load(…, plugins=…) a folder with the file as it was"
    if folders is None:
        if all(find_module_file(m) and read_revision(m) == d for m, d in content.items()):
            return
        job = read_json(folder / JOB_FILE, remedy)
        stated = job.get("run", {}).get("plugins", {}).get("folders", ())
        folders = list_safe_folders(stated, folder)
    use_plugin_folders(folders)
    check_own_content(content, f"{folder}: ", remedy)


def list_safe_folders(folders: Iterable[str], artefact: Path) -> list[Path]:
    """Plug-in folders that an artefact's job file names.

    Raises:
        RetortError: one lies in the artefact's store: what came with a store from elsewhere would
            be run.
    """
    store, found = artefact.resolve().parent.parent, [Path(folder) for folder in folders]
    for folder in found:
        if not folder.is_absolute() or folder.resolve().is_relative_to(store):
            raise RetortError(
                f"{artefact / JOB_FILE}: plugins: {folder} lies in the store, and no code is run "
                "out of a store; move it out, and plan anew"
            )
    return found


def check_own_content(content: dict[str, str], prefix: str, remedy: str) -> None:
    """Checks that plug-ins of the user's own hold what they held.

    Raises:
        RetortError: a file is gone or has changed.
    """
    for module, digest in sorted(content.items()):
        path = find_module_file(module)
        if path is None:
            name = "/".join(module.split(".")[1:])
            raise RetortError(f"{prefix}{name}.py: is in no folder of plugins; {remedy}")
        if read_revision(module) != digest:
            raise RetortError(
                f"{prefix}{show_path(path)}, or what it imports, has changed since this was "
                f"planned; {remedy}"
            )


def check_code(job: Job) -> None:
    """Refuse a job that was planned with other code: its result would have the wrong key.

    Raises:
        RetortError: names the first module whose REVISION differs from the one in the key; under
            `strict_code` it is raised for edited text too.
    """
    now = read_revisions_now(job.code)
    remedy = "run 'retort run' to plan it anew, or go back to the code it was planned with"
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
    """Our modules that made an artefact and no longer exist, sorted.

    The user's own are left out: another configuration may name their folder.
    """
    gone = (module for module in manifest.code if not find_module_file(module))
    return sorted(module for module in gone if not is_own(module))


def read_revisions_now(modules: Iterable[str]) -> dict[str, int | str | None]:
    """Today's REVISION of each module; None if it has none or no longer exists."""
    return {
        module: read_revision(module) if find_module_file(module) else None for module in modules
    }
