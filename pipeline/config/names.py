"""Valid names of sections: a name becomes a link in the store."""

from collections.abc import Iterable

from pipeline.errors import RetortError

MAX_NAME_BYTES = 100  # bytes of one name
MAX_LABEL_BYTES = 220  # bytes of an evaluation's name, which is two names and a seed
NAMED_SECTIONS = (
    "datasets",
    "teachers",
    "discretizers",
    "banks",
    "generators",
    "students",
    "suites",
)


def explain_bad_name(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """The reason why a text is not a valid name; empty if it is one."""
    if not name or name != name.strip():
        return "is empty or has spaces around it"
    if "/" in name:
        return "holds a slash, which would lead out of its folder"
    if name.startswith("."):
        return "starts with a dot"
    if not name.isprintable():
        return "holds a character that cannot be printed"
    size = len(name.encode())
    return f"has {size} bytes, {max_bytes} at most" if size > max_bytes else ""


def check_names(section: str, names: Iterable[object]) -> None:
    """Checks that every name can be the name of a file.

    Raises:
        RetortError: a name cannot; the message names it and its section.
    """
    for name in names:
        if isinstance(name, str) and (why := explain_bad_name(name)):
            shown = name if len(name) <= MAX_NAME_BYTES else f"{name[:20]}…"
            raise RetortError(f"{section}: the name {shown!r} {why}; choose another name")
