"""Strict reading of a YAML file: its values, and the line on which each key is written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.error import MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from pipeline.errors import RetortError

TAG = "tag:yaml.org,2002:"
MEANINGS = {"bool": "true or false", "null": "nothing", "timestamp": "a date", "value": "a sign"}
NUMBERED_KEYS = "names"  # the option whose keys may be numbers: classes by number
WIDE_ENCODINGS = {  # how a file begins -> its encoding
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
MOST_VALUES = 1_000_000  # of a file with its aliases written out


@dataclass(frozen=True)
class KeyPlace:
    """Where a key is written, and the keys below it.

    Attributes:
        where: `my.yaml:12`, or `--config`.
        below: by key, or by position in a list.
    """

    where: str
    below: dict[str, "KeyPlace"] = field(default_factory=dict)


def read_yaml(path: Path) -> tuple[dict, dict[str, KeyPlace]]:
    """The mapping in a file, and the places of its keys.

    Raises:
        RetortError: it cannot be read, is not YAML in UTF-8, holds a key twice or a key that is no
            text. The message begins with file and line.
    """
    loader, text = None, read_text(path)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, MappingNode):
            raise RetortError(f"{path}: a mapping of sections is expected, such as 'students: …'")
        check_size(path, node)
        for part, place in iterate_nodes(path, node):
            check_node(path, loader, part, place)
        values = loader.construct_document(node)
        return values, collect_places(path, node, {})
    except MarkedYAMLError as error:
        line, problem = describe_syntax_error(text, error)
        raise RetortError(f"{path}:{line}: {problem}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"the character {error.character:#06x} is no text; delete it"
        raise RetortError(f"{path}:{line}: {what}") from error
    except RecursionError as error:
        raise RetortError(f"{path}: is nested too deeply; write it flatter") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_text(path: Path) -> str:
    """A file's text, which must be UTF-8, with or without a byte order mark.

    Raises:
        RetortError: it cannot be read, or is something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        remedy = "check its path, or write one with 'retort init'"
        raise RetortError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:  # a null character in the path
        raise RetortError(f"{path}: is no path of a file; check it") from error
    for start, encoding in WIDE_ENCODINGS.items():
        if data.startswith(start):
            raise RetortError(f"{path}: is encoded in {encoding}; save it as UTF-8")
    if b"\0" in data:
        raise RetortError(f"{path}: is binary, or encoded in UTF-16; give a text in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"the byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8"
        raise RetortError(f"{path}:{line}: {what}") from error


def describe_syntax_error(text: str, error: MarkedYAMLError) -> tuple[int, str]:
    """The line of a syntax error, from 1, and what is wrong with it."""
    mark, problem = error.problem_mark or error.context_mark, error.problem or error.context or ""
    number = mark.line + 1 if mark else 1
    lines = [*text.splitlines(), ""]
    for line in {number, min(number + 1, len(lines))}:
        indent = lines[min(line, len(lines)) - 1]
        if "\t" in indent[: len(indent) - len(indent.lstrip())]:
            return line, "is indented by a tab; indent by spaces"
    if "expected ':'" in problem and error.context_mark:
        return error.context_mark.line + 1, "the colon after the key is missing; write 'key: value'"
    if "mapping values are not allowed" in problem:
        return number, (
            "a colon where none may be; end the line above by one, or put the text in quotes"
        )
    return number, f"not valid YAML: {problem}; check this line and the one above"


def get_line(node: Node) -> int:
    """The line on which a node begins, from 1."""
    return node.start_mark.line + 1


def get_children(node: Node) -> list[Node]:
    """The nodes right below one, values of a mapping without its keys."""
    if isinstance(node, MappingNode):
        return [value for _, value in node.value]
    return list(node.value) if isinstance(node, SequenceNode) else []


def check_size(path: Path, root: Node) -> None:
    """Raise if a node contains itself, or its aliases written out are too many values."""
    sizes: dict[int, int] = {}

    def count_values(node: Node, above: tuple[int, ...]) -> int:
        if id(node) in above:
            raise RetortError(f"{path}:{get_line(node)}: contains itself by an alias; drop it")
        if id(node) not in sizes:
            inside = (*above, id(node))
            sizes[id(node)] = 1 + sum(count_values(part, inside) for part in get_children(node))
        return sizes[id(node)]

    if (count := count_values(root, ())) > MOST_VALUES:
        raise RetortError(f"{path}: its aliases stand for {count} values; write fewer")


def iterate_nodes(path: Path, root: Node) -> Iterator[tuple[Node, str]]:
    """Every node once, with the dotted path of its first place."""
    seen, waiting = set(), [(root, "")]
    while waiting:
        node, place = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node, place
        if isinstance(node, MappingNode):
            inside = [(value, f"{place}.{key.value}".lstrip(".")) for key, value in node.value]
        else:
            inside = [(part, f"{place}.{i}") for i, part in enumerate(get_children(node))]
        waiting += reversed(inside)


def check_node(path: Path, loader: yaml.SafeLoader, node: Node, place: str) -> None:
    """Raise if a mapping has a key twice or one that is no text, or if a scalar has no value."""
    if isinstance(node, MappingNode):
        check_keys(path, node, place)
    if isinstance(node, ScalarNode):
        try:
            loader.construct_object(node)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            kind = node.tag.removeprefix(TAG)
            what = f"{node.value[:40]!r} cannot be read as {MEANINGS.get(kind, kind)}; quote it"
            raise RetortError(f"{path}:{get_line(node)}: {place}: {what}") from error


def check_keys(path: Path, node: MappingNode, place: str) -> None:
    """Raise if a mapping has a key twice, or a key that is no text."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        where, kind = f"{path}:{get_line(key)}", key.tag.removeprefix(TAG)
        label = f"{place}.{key.value}".lstrip(".") if isinstance(key, ScalarNode) else place
        if not isinstance(key, ScalarNode):
            raise RetortError(f"{where}: {place}: a list or mapping cannot be a key; use a text")
        if kind == "merge":
            continue
        is_plain = key.value.isdecimal() and str(int(key.value)) == key.value  # not 010, 8 to YAML
        numbered = kind == "int" and is_plain and place.rpartition(".")[2] == NUMBERED_KEYS
        if kind != "str" and not numbered:
            meaning = MEANINGS.get(kind, "a number")
            raise RetortError(
                f"{where}: {label}: YAML reads the name {key.value or 'null'} as {meaning}; quote "
                f'it: "{key.value}"'
            )
        if key.value in lines:
            raise RetortError(
                f"{where}: {label}: is there twice, first on line {lines[key.value]}; delete or "
                "rename one"
            )
        lines[key.value] = get_line(key)


def collect_places(path: Path, node: Node, known: dict[int, dict]) -> dict[str, KeyPlace]:
    """The places of the keys below a node, by key; ``known`` holds those of nodes seen before."""
    if id(node) not in known:
        if isinstance(node, MappingNode):
            pairs = [(str(key.value), key, value) for key, value in node.value]
        else:
            pairs = [(str(i), part, part) for i, part in enumerate(get_children(node))]
        known[id(node)] = {
            name: KeyPlace(f"{path}:{get_line(key)}", collect_places(path, value, known))
            for name, key, value in pairs
        }
    return known[id(node)]


def place_values(value: Any, where: str) -> dict[str, KeyPlace]:
    """The places of the keys of a mapping or list that was written at one place."""
    if isinstance(value, dict):
        return {str(k): KeyPlace(where, place_values(v, where)) for k, v in value.items()}
    if isinstance(value, list):
        return {str(i): KeyPlace(where, place_values(v, where)) for i, v in enumerate(value)}
    return {}
