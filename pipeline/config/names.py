"""What an entry of the configuration may be called: its name becomes a link in the store."""

from collections.abc import Iterable

from pipeline.errors import RetortError

LONGEST = 100  # bytes of one name
LONGEST_LABEL = 220  # bytes of an evaluation's, which is two names and a seed
NAMED = ("datasets", "teachers", "discretizers", "banks", "generators", "students", "suites")


def trouble(name: str, longest: int = LONGEST) -> str:
    """Why a text is no name; empty if it is one."""
    if not name or name != name.strip():
        return "is empty or has spaces around it"
    if "/" in name:
        return "holds a slash, which would lead out of its folder"
    if name.startswith("."):
        return "starts with a dot"
    if not name.isprintable():
        return "holds a character that cannot be printed"
    size = len(name.encode())
    return f"has {size} bytes, {longest} at most" if size > longest else ""


def check_names(section: str, names: Iterable[object]) -> None:
    """Refuse entries whose name is no name for a file.

    Raises:
        RetortError: naming the section and the entry.
    """
    for name in names:
        if isinstance(name, str) and (why := trouble(name)):
            shown = name if len(name) <= LONGEST else f"{name[:20]}…"
            raise RetortError(f"{section}: the name {shown!r} {why}; call it otherwise")
