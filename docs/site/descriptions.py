"""What the code says about its own settings: fields, types, defaults and descriptions.

A field's description is its line under "Attributes:" in the docstring of its class, or of a class
that this one inherits from. Options of an inner attack are described by ``InnerAttack``, that of a
clean forward by ``CleanForward``, those that every attack for evaluation has by
``core.attack_protocol``.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, get_args

import griffe
import yaml
from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticUndefined

from pipeline.core import attack_protocol
from pipeline.core.inner_attack import CleanForward, InnerAttack
from pipeline.schema import build_section_class, list_options

UNITS = {  # what a description says -> the unit of the field
    r"pixels (in|of) \[0,1\]": "pixels of [0,1]",
    r"\bin pixels\b|\bpixels of the image\b": "pixels",
    r"\bin seconds\b": "seconds",
    r"\bin minutes\b": "minutes",
    r"\bin MB\b": "MB",
    r"^share of|\ba share of|\bshares of": "share",
    r"^number of|^numbers of": "count",
    r"^epochs? ": "epochs",
}


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting, ready to be printed; ``kind`` may hold Markdown links."""

    name: str
    kind: str
    default: str
    description: str

    @property
    def unit(self) -> str:
        """The unit that the description states; empty for none."""
        return next((unit for word, unit in UNITS.items() if re.search(word, self.description)), "")


def read_attributes(docstring: str | None) -> dict[str, str]:
    """The descriptions under "Attributes:" of a docstring, each on one line."""
    sections = griffe.Docstring(docstring or "").parse("google", warnings=False)
    return {
        attribute.name: " ".join(attribute.description.split())
        for section in sections
        if section.kind is griffe.DocstringSectionKind.attributes
        for attribute in section.value
    }


def read_text(docstring: str | None) -> str:
    """A docstring without its sections of attributes and errors."""
    sections = griffe.Docstring(inspect.cleandoc(docstring or "")).parse("google", warnings=False)
    return "\n\n".join(
        section.value for section in sections if section.kind is griffe.DocstringSectionKind.text
    )


def describe_class(target: type) -> dict[str, str]:
    """The descriptions of a class's fields, with those that it inherits."""
    found: dict[str, str] = {}
    for each in reversed(target.__mro__):
        found |= read_attributes(each.__doc__)
    return found


def list_section_fields(target: type[BaseModel]) -> list[Field]:
    """The fields of a section of the configuration."""
    schema, words = target.model_json_schema(), describe_class(target)
    defs = schema.get("$defs", {})
    return [
        Field(
            name,
            describe_type(schema["properties"][name], defs, optional=info.default is not None)
            + describe_bounds(info.metadata),
            format_default(info.get_default(call_default_factory=True), info.is_required()),
            words.get(name, ""),
        )
        for name, info in target.model_fields.items()
    ]


def list_plugin_fields(target: type) -> list[Field]:
    """The options of a plug-in; those of its inner attack are described once, with the attack."""
    schema = build_section_class(target).model_json_schema()
    shared = dict(re.findall(r"^    (\w+): (.*)$", attack_protocol.__doc__, re.MULTILINE))
    groups = read_attributes(InnerAttack.__doc__) | read_attributes(CleanForward.__doc__)
    words = groups | shared | describe_class(target)
    return [
        Field(
            name,
            describe_type(schema["properties"][name], schema.get("$defs", {}), optional=False),
            format_default(option.default, option.default is dataclasses.MISSING),
            words.get(name, ""),
        )
        for name, option in list_options(target).items()
    ]


def describe_type(schema: Mapping, defs: Mapping, *, optional: bool = True) -> str:
    """What may stand there, in words, from a field's JSON schema."""
    if "description" in schema:
        return schema["description"].rstrip(",")
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[settings](#{name.lower()})" if name in defs else name
    if "allOf" in schema:
        return describe_type(schema["allOf"][0], defs)
    if "anyOf" in schema:
        words = [describe_type(each, defs) for each in schema["anyOf"]]
        words = [word for word in words if optional or word != "`null`"]
        return " or ".join(dict.fromkeys(words))
    if "enum" in schema:
        return ", ".join(f"`{format_value(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{format_value(schema['const'])}`"
    kind = schema.get("type")
    if kind == "array":
        return describe_list(schema, defs)
    if kind == "object":
        inner = schema.get("additionalProperties")
        to = describe_type(inner, defs) if isinstance(inner, Mapping) and inner else "anything"
        return f"names, each with {to}"
    if kind in ("integer", "number"):
        return f"{kind}{describe_range(schema)}"
    words = {"string": "text", "boolean": "`true`, `false`", "null": "`null`"}
    return words.get(kind, "any value")


def describe_list(schema: Mapping, defs: Mapping) -> str:
    """A list of things, in words."""
    if "prefixItems" in schema:
        inner = describe_type(schema["prefixItems"][0], defs)
        return f"list of {len(schema['prefixItems'])}: {inner}"
    return f"list: {describe_type(schema.get('items', {}), defs)}"


def describe_range(schema: Mapping) -> str:
    """The bounds of a number; empty without any."""
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    found = [f"{word} {schema[bound]:g}" for bound, word in words.items() if bound in schema]
    return f", {' and '.join(found)}" if found else ""


def describe_bounds(metadata: list[Any]) -> str:
    """The bounds of a fraction, which its schema does not have."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    fraction = any(isinstance(item, BeforeValidator) for item in metadata)
    found = [
        f"{word} {getattr(item, bound):g}"
        for item in metadata
        for bound, word in words.items()
        if fraction and hasattr(item, bound)
    ]
    return f", {' and '.join(found)}" if found else ""


def format_default(value: Any, required: bool) -> str:
    """A default as a configuration would have it; «required» where there is none."""
    if required or value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "its defaults"
    if value is None:
        return "none"
    return f"`{format_value(value)}`"


def format_value(value: Any) -> str:
    """A value as YAML on one line; fractions that a decimal would blur are fractions."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, Mapping):
        return yaml.safe_dump(dict(value), default_flow_style=True).strip()
    return yaml.safe_dump(value).removesuffix("\n...\n").strip() if value == "" else str(value)


def format_number(value: float) -> str:
    """A float: as it is if it is short, in 255ths if it is a radius, else as a small fraction."""
    if len(f"{value:g}") <= 5 or f"{value:g}" == repr(value):
        return f"{value:g}"
    fraction = Fraction(value).limit_denominator(300)
    return str(fraction) if abs(float(fraction) - value) < 1e-12 else f"{value:g}"


def find_section_classes(annotation: Any) -> list[type[BaseModel]]:
    """The classes of sections in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for arg in get_args(annotation) for found in find_section_classes(arg)]
