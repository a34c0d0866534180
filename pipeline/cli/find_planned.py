"""The artefact that a user's word means."""

from pipeline.discovery import suggest_known
from pipeline.errors import RetortError
from pipeline.planning.plan import Plan


def find_planned_ref(plan: Plan, word: str) -> str | None:
    """The `kind/key` of a planned artefact; None if the word means none.

    The word is a name, `kind/name`, a key or `kind/key`. A student without its seed means the one
    of its first seed.

    Raises:
        RetortError: it means several artefacts.
    """
    kind, _, name = word.rpartition("/")
    found = {
        ref
        for (each_kind, label), ref in plan.refs_by_name.items()
        if kind in ("", each_kind) and name in (label, ref.partition("/")[2])
    }
    if not found:
        seeded = [
            ref
            for (each_kind, label), ref in plan.refs_by_name.items()
            if each_kind == "student"
            and kind in ("", "student")
            and label.rpartition("-")[0] == name
        ]
        found = set(seeded[:1])
    if len(found) > 1:
        raise RetortError(f"{word}: means {', '.join(sorted(found))}; give one of these")
    return found.pop() if found else None


def suggest_names(plan: Plan, word: str) -> str:
    """The end of an error message: the planned name nearest to a word, or all planned names."""
    known = {label for kind, name in plan.refs_by_name for label in (name, f"{kind}/{name}")}
    return suggest_known(word, known)
