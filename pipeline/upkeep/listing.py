"""The artefacts in a store, of whichever configuration."""

from pathlib import Path

from pipeline.errors import COMMAND, RetortError
from pipeline.store.artefact import JOB_FILE, KEY_PATTERN, STAGES_BY_KIND, check_refs, read_json

NAMES_FOLDER = "by-name"


def list_refs(store: Path) -> list[str]:
    """Every `kind/key` that has a folder, finished or not, in the order of the graph."""
    return [
        f"{kind}/{folder.name}"
        for kind in STAGES_BY_KIND
        for folder in sorted((store / kind).glob("*"))
        if KEY_PATTERN.fullmatch(folder.name) and folder.is_dir()
    ]


def find_names(store: Path) -> dict[str, list[str]]:
    """The names that point at each `kind/key`."""
    found: dict[str, list[str]] = {}
    for kind in STAGES_BY_KIND:
        for link in sorted((store / NAMES_FOLDER / kind).glob("*")):
            if link.is_symlink():
                found.setdefault(f"{kind}/{link.readlink().name}", []).append(link.name)
    return found


def read_input_refs(folder: Path) -> list[str]:
    """The `kind/key` of each input that an artefact's job file names; empty without a job file.

    Raises:
        RetortError: the job file cannot be read.
    """
    if not (folder / JOB_FILE).exists():
        return []
    remedy = f"delete it, and run '{COMMAND} plan --write' to have it back"
    job = read_json(folder / JOB_FILE, remedy)
    try:
        check_refs(job["inputs"])
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise RetortError(f"{folder / JOB_FILE}: is no job file ({error!r}); {remedy}") from error
    return list(job["inputs"].values())


def collect_with_inputs(store: Path, refs: list[str]) -> list[str]:
    """The artefacts and all their direct and indirect inputs, in the order of the graph."""
    seen, waiting = set(), list(refs)
    while waiting:
        ref = waiting.pop()
        if ref not in seen:
            seen.add(ref)
            waiting.extend(read_input_refs(store / ref))
    kinds = list(STAGES_BY_KIND)
    return sorted(seen, key=lambda ref: (kinds.index(ref.partition("/")[0]), ref))


def find_artefacts(store: Path, word: str) -> list[str]:
    """The artefact that a word means, in a list: `kind/name`, `kind/key`, a name, or a key.

    Raises:
        RetortError: the word means no artefact, or several.
    """
    names, refs = find_names(store), list_refs(store)
    meanings = {ref: {ref, ref.partition("/")[2]} for ref in refs}
    for ref in refs:
        kind = ref.partition("/")[0]
        meanings[ref] |= {w for name in names.get(ref, []) for w in (name, f"{kind}/{name}")}
    found = [ref for ref in refs if word in meanings[ref]]
    if len(found) != 1:
        what = "nothing" if not found else f"{len(found)} artefacts: {', '.join(found)}"
        raise RetortError(f"{word}: means {what} in {store}; give <kind>/<name> or a key")
    return found


def count_bytes(place: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return sum(path.lstat().st_size for path in files)


def format_bytes(size: int) -> str:
    """A number of bytes as text, in MB or kB."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def format_table(lines: list[tuple[str, ...]]) -> str:
    """Lines of cells as a table, left-aligned."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, [*widths, 0], strict=True)).rstrip()
        for line in lines
    )
