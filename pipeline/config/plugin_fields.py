"""Fields of a configuration that name a plug-in and its options."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from pipeline.config.dataset_source import KIND, has_options
from pipeline.discovery import names_in
from pipeline.errors import RetortError
from pipeline.schema import below, flatten, make, named_options, options_of, unknown_key


def all_but_neutral(plug: Any) -> dict:
    """A plug-in's options; one added later, `field(metadata={"neutral": v})`, only if not at v."""
    known = options_of(type(plug))
    return {name: v for name, v in flatten(plug).items() if v != known[name].neutral}


def plugged(folder: str, kind: str) -> Any:
    """A validator that turns a plug-in's name and options into {name: {every field}}."""

    def check(value: Any) -> dict:
        name, options = named_options(value)
        if name not in names_in(folder):
            raise unknown_key(name, names_in(folder))
        try:
            return {name: all_but_neutral(make(folder, kind, name, options))}
        except RetortError as error:
            raise below(str(error)) from error

    return BeforeValidator(check)


def sourced(value: Any) -> str | dict:
    """A data set's name, or with options {name: {every field}}."""
    name, options = named_options(value)
    try:
        if has_options(name):
            return {name: all_but_neutral(make("datasets", KIND, name, options))}
    except RetortError as error:
        raise (below(str(error)) if name in names_in("datasets") else ValueError(error)) from error
    if options:
        raise ValueError(f"'{name}' has no options; write its name alone")
    return name


Plugin = dict[str, dict[str, Any]]  # in a spec: {name: options}, all of them checked already
ObjectiveSpec = Annotated[dict[str, dict], plugged("objectives", "Objective")]
AttackSpec = Annotated[dict[str, dict], plugged("attacks", "Attack")]
LossSpec = Annotated[dict[str, dict], plugged("generator_losses", "Loss")]
