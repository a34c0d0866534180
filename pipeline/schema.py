"""Strict reading of a configuration: fractions become numbers, unknown keys errors with a hint."""

import dataclasses
import re
from collections.abc import Mapping
from functools import cache, reduce
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipeline.contracts.type_words import (
    ask_for,
    describe_given,
    describe_type,
    follow_path,
    get_element_type,
    list_alternatives,
    list_words,
    step_into,
    wants_number,
)
from pipeline.discovery import load_plugin, suggest_known
from pipeline.errors import RetortError

FRACTION_PATTERN = re.compile(r"\s*([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)\s*/\s*(\d+\.?\d*)\s*")


def parse_fractions(value: Any) -> Any:
    """The value with every string such as '8/255' in it, at any depth, replaced by a float."""
    if isinstance(value, str):
        match = FRACTION_PATTERN.fullmatch(value) if "/" in value else None
        return float(match[1]) / float(match[2]) if match and float(match[2]) else value
    if isinstance(value, Mapping):
        return {k: parse_fractions(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [parse_fractions(v) for v in value]
    return value


Number = Annotated[float, BeforeValidator(parse_fractions)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
PositiveFloat = Annotated[Number, Field(gt=0)]
Device = Literal["cpu", "cuda"]
DeviceChoice = Literal["cpu", "cuda", "auto"]
NonNegativeFloat = Annotated[Number, Field(ge=0)]
TeacherForm = Literal["as_trained", "folded"]
ANY_NUMBER = TypeAdapter(Number, config=ConfigDict(allow_inf_nan=False))
Folder = Annotated[str, Field(min_length=1, description="the path of a folder")]


def read_number(value: Any) -> float | None:
    """The number that a field of numbers makes of 0.03, '0.03' or '8/255'; None of other values."""
    if isinstance(value, bool):
        return None
    try:
        return ANY_NUMBER.validate_python(value)
    except ValidationError:
        return None


def make_neutral_field(neutral: Any) -> Any:
    """A field that is left out of the key while it equals ``neutral``, its default."""
    as_json = list(neutral) if isinstance(neutral, tuple) else neutral
    return Field(default=neutral, json_schema_extra={"neutral": as_json})


class Section(BaseModel):
    """A configuration section that refuses unknown keys and suggests the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def reject_unknown_keys(cls, value: Any) -> Any:
        """Rejects the first unknown key and suggests the nearest known one."""
        if isinstance(value, Mapping):
            for key, given in value.items():
                if key not in cls.model_fields:
                    raise make_unknown_key_error(str(key), cls.model_fields)
                if isinstance(given, bool | list | tuple):
                    reject_booleans(key, step_into(cls, key), given)
        return value


def reject_booleans(path: str, kind: Any, value: Any) -> None:
    """Raises an error if true or false stands for a number: `epochs: yes` would be one epoch."""
    if isinstance(value, bool) and wants_number(kind):
        raise make_nested_error(f"{path}: {ask_for(kind)}{describe_given(value)}")
    if isinstance(value, list | tuple):
        for element in filter(None, map(get_element_type, list_alternatives(kind))):
            for number, part in enumerate(value):
                reject_booleans(f"{path}.{number}", element, part)


def dump_section(model: BaseModel, *, without: tuple[str, ...] = ()) -> dict:
    """A section as plain JSON values, without the fields that equal their neutral default."""
    data = model.model_dump(mode="json", exclude=set(without))
    for name, info in type(model).model_fields.items():
        extra = info.json_schema_extra or {}
        if name in data and "neutral" in extra and data[name] == extra["neutral"]:
            del data[name]
        elif name in data and isinstance(getattr(model, name), BaseModel):
            data[name] = dump_section(getattr(model, name))
    return data


def make_unknown_key_error(key: str, known) -> PydanticCustomError:
    """The error for an unknown key; ``format_validation_error`` puts the path before it."""
    hint = suggest_known(key, known).replace("{", "(").replace("}", ")")
    return PydanticCustomError("unknown_key", "{key}: unknown{hint}", {"key": key, "hint": hint})


def make_nested_error(text: str) -> PydanticCustomError:
    """An error whose text starts with a path relative to the checked field."""
    return PydanticCustomError("below", "{text}", {"text": text})


def format_validation_error(
    error: ValidationError, model: type[BaseModel], *parent_path: str
) -> str:
    """The first fault of a validation as one line: the dotted path, then what is wrong.

    A value of the wrong type or out of its bounds is answered by what is expected in words.
    """
    first, parts, kind = find_first_fault(error, model)
    path = ".".join([*parent_path, *parts])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("unknown_key", "below"):
        return f"{path}.{message}" if path else message
    if first["type"] == "literal_error" and kind is not None and isinstance(first["input"], str):
        words = [str(word) for part in list_alternatives(kind) for word in list_words(part)]
        return f"{path}: {first['input']!r} is unknown{suggest_known(first['input'], words)}"
    if first["type"] != "value_error" and kind is not None:
        what = describe_type(kind)
        message = f"is missing; give {what}" if first["type"] == "missing" else ask_for(kind)
    if first["type"] == "finite_number":
        message = message.replace("a number", "a finite number")
    if first["type"] not in ("missing", "value_error"):
        message += describe_given(first.get("input"))
    return f"{path}: {message}" if path else message


def find_first_fault(error: ValidationError, model: type[BaseModel]) -> tuple[dict, list[str], Any]:
    """The first fault of a validation, the parts of its path, and the annotated type there.

    Where several types are possible, it is the fault that lies deepest: `eps.1` and not `eps`.
    """
    faults = [(fault, *follow_path(model, fault["loc"])) for fault in error.errors()]
    start = faults[0][1]
    return max((f for f in faults if f[1][: len(start)] == start), key=lambda fault: len(fault[1]))


def parse_named_options(value: Any) -> tuple[str, dict]:
    """The name and options in `natural` or `{pgd_at: {…}}`."""
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, options),) = value.items()
        if options is None or isinstance(options, Mapping):
            return str(name), dict(options or {})
    raise ValueError("expected a name, or one name with its options: {name: {option: value}}")


NO_NEUTRAL = object()  # the neutral value of an option that is always in the key


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a plug-in.

    Attributes:
        kind: its annotated type.
        path: names of the attributes that lead to it: its field, or its group and its field.
        default: its value if none is given; ``dataclasses.MISSING`` if one must be given.
        neutral: the value at which it is left out of the key, or ``NO_NEUTRAL``.
    """

    kind: Any
    path: tuple[str, ...]
    default: Any
    neutral: Any = NO_NEUTRAL


@cache
def list_options(target: type) -> dict[str, Option]:
    """A dataclass's options by name: its fields, and the fields of its groups.

    A group is a field whose value is itself a dataclass of settings, marked by metadata: "fixed"
    names the settings that are not options, "neutral_options" those that are left out of the key at
    their default. The settings' defaults are those of the group's default.
    """
    hints, found = get_type_hints(target), {}
    for field in dataclasses.fields(target):
        if "fixed" in field.metadata:
            found |= list_group_options(field, hints[field.name])
        elif field.init:
            neutral = field.metadata.get("neutral", NO_NEUTRAL)
            found[field.name] = Option(hints[field.name], (field.name,), field.default, neutral)
    return found


def list_group_options(group: dataclasses.Field, kind: type) -> dict[str, Option]:
    """The options of one group."""
    hints, found = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name not in group.metadata["fixed"]:
            default = getattr(group.default, field.name)
            neutral = default if field.name in group.metadata["neutral_options"] else NO_NEUTRAL
            path = (group.name, field.name)
            found[field.name] = Option(hints[field.name], path, default, neutral)
    return found


def get_defaults(target: type) -> dict[str, Any]:
    """The default of each option."""
    return {name: option.default for name, option in list_options(target).items()}


def flatten_options(instance: Any) -> dict[str, Any]:
    """The value of each option."""
    known = list_options(type(instance))
    return {name: reduce(getattr, option.path, instance) for name, option in known.items()}


@cache
def build_section_class(target: type) -> type[Section]:
    """A section class for a dataclass's options; cached, as a plan uses each many times."""
    fields = {name: (option.kind, None) for name, option in list_options(target).items()}
    return create_model(target.__name__, __base__=Section, **fields)


def build_instance(target: type, options: Mapping) -> Any:
    """An instance of a dataclass, made from options that are checked first.

    Raises:
        ValueError: unknown option, or invalid value. The message starts with the option's name.
    """
    try:
        given = build_section_class(target).model_validate(parse_fractions(options))
    except ValidationError as error:
        message = format_validation_error(error, build_section_class(target))
        raise ValueError(message) from error
    known, fields, groups = list_options(target), {}, {}
    for name in given.model_fields_set:
        field, *inside = known[name].path
        place = groups.setdefault(field, {}) if inside else fields
        place[name] = getattr(given, name)
    for field, values in groups.items():
        fields[field] = dataclasses.replace(getattr(target, field), **values)
    return target(**fields)


def make_plugin(folder: str, class_name: str, name: str, options: Mapping) -> Any:
    """An instance of the dataclass ``class_name`` of plug-in ``name``, its options checked.

    Raises:
        RetortError: unknown plug-in or option, or invalid value. The message starts with the
            option's path, plug-in first.
    """
    target = getattr(load_plugin(folder, name), class_name)
    try:
        return build_instance(target, options)
    except ValueError as error:
        begins_with_option = re.match(r"[\w.-]+: ", str(error))
        raise RetortError(f"{name}{'.' if begins_with_option else ': '}{error}") from error
