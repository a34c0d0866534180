"""Fields of a configuration that name a plug-in and its options."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from pipeline.config.dataset_source import OPTIONS_CLASS, has_options
from pipeline.discovery import list_plugin_names
from pipeline.errors import RetortError
from pipeline.schema import (
    flatten_options,
    list_options,
    make_nested_error,
    make_plugin,
    make_unknown_key_error,
    parse_named_options,
)


def collect_key_options(instance: Any) -> dict:
    """A plug-in's options that enter the key: all but those at their neutral value."""
    known = list_options(type(instance))
    return {name: v for name, v in flatten_options(instance).items() if v != known[name].neutral}


def make_plugin_validator(folder: str, class_name: str) -> Any:
    """A validator that turns a plug-in's name and options into {name: options}, all checked."""

    def resolve_options(value: Any) -> dict:
        name, options = parse_named_options(value)
        if name not in list_plugin_names(folder):
            raise make_unknown_key_error(name, list_plugin_names(folder))
        try:
            return {name: collect_key_options(make_plugin(folder, class_name, name, options))}
        except RetortError as error:
            raise make_nested_error(str(error)) from error

    return BeforeValidator(resolve_options)


def resolve_source(value: Any) -> str | dict:
    """A data set's name, or {name: options} if its plug-in has options."""
    name, options = parse_named_options(value)
    try:
        if has_options(name):
            return {
                name: collect_key_options(make_plugin("datasets", OPTIONS_CLASS, name, options))
            }
    except RetortError as error:
        raise (
            make_nested_error(str(error))
            if name in list_plugin_names("datasets")
            else ValueError(error)
        ) from error
    if options:
        raise ValueError(f"'{name}' has no options; write its name alone")
    return name


Plugin = dict[str, dict[str, Any]]  # in a spec: {name: options}, which are checked already
ObjectiveSpec = Annotated[dict[str, dict], make_plugin_validator("objectives", "Objective")]
AttackSpec = Annotated[dict[str, dict], make_plugin_validator("attacks", "Attack")]
LossSpec = Annotated[dict[str, dict], make_plugin_validator("generator_losses", "Loss")]
