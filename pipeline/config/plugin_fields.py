"""Fields of a configuration that name a plug-in and its options."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from pipeline.config.dataset_source import OPTIONS_CLASS, has_options
from pipeline.discovery import list_plugin_names, load_plugin, use_plugin_folders
from pipeline.errors import RetortError, prefix_errors
from pipeline.schema import (
    flatten_options,
    list_options,
    make_nested_error,
    make_plugin,
    make_unknown_key_error,
    parse_named_options,
)

ATTACK_PREFIX = "attack."  # prefix of the names of attacks' files in a job


def list_plugin_folders(value: Any) -> tuple[str, ...]:
    """The folders of the user's own plug-ins, one or several, as absolute paths.

    Raises:
        ValueError: it is neither a path nor a list of paths.
    """
    paths = [value] if isinstance(value, str) else value
    if not (isinstance(paths, list | tuple) and all(isinstance(p, str) and p for p in paths)):
        raise ValueError("expected a folder, or a list of folders")
    return tuple(str(Path(path).expanduser().resolve()) for path in paths)


def use_configured_plugins(raw: dict) -> None:
    """Makes the plug-ins of a configuration's folders known, and those of no other folder.

    Raises:
        RetortError: no such folder, or a name that is taken.
    """
    try:
        folders = list_plugin_folders(raw.get("plugins") or ())
    except ValueError as error:
        raise RetortError(f"plugins: {error}") from error
    use_plugin_folders(map(Path, folders))


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
        load_own_file(folder, name)
        options = expand_preset(folder, name, options)
        try:
            return {name: collect_key_options(make_plugin(folder, class_name, name, options))}
        except RetortError as error:
            raise make_nested_error(str(error)) from error

    return BeforeValidator(resolve_options)


def expand_preset(folder: str, name: str, options: dict) -> dict:
    """The options, with a plug-in's ``RELEASED`` ones in the place of `preset: released`.

    An option that is given beside it stays as given.

    Raises:
        PydanticCustomError: the preset is another word.
    """
    released = getattr(load_plugin(folder, name), "RELEASED", None)
    if released is None or "preset" not in options:
        return options
    given = {option: value for option, value in options.items() if option != "preset"}
    if (word := options["preset"]) != "released":
        raise make_nested_error(f"{name}.preset: {word!r} is unknown; 'released' is the only one")
    return released | given


def load_own_file(folder: str, name: str) -> None:
    """Loads a plug-in, so that a fault of its file is told apart from one of its options.

    Raises:
        ValueError: the file is not what a plug-in of its kind must be.
    """
    try:
        load_plugin(folder, name)
    except RetortError as error:
        raise ValueError(error) from error


def resolve_source(value: Any) -> str | dict:
    """A data set's name, or {name: options} if its plug-in has options."""
    name, options = parse_named_options(value)
    if name in list_plugin_names("datasets"):
        load_own_file("datasets", name)
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


def list_attack_paths(name: str) -> tuple[str, ...]:
    """The options of an attack that say where its files lie; no key holds them."""
    kind = load_plugin("attacks", name).Attack
    return tuple(f.name for f in fields(kind) if "outside" in f.metadata)


def pin_attack_files(
    attacks: Sequence[Mapping[str, Mapping]], data: Path
) -> tuple[list[dict], dict[str, str]]:
    """Attacks without the paths of their files, and these paths under their names in a job.

    What stands for a file in the key is found by the attack itself.

    Raises:
        RetortError: a file is missing or not the stated one; the message starts with its attack.
    """
    pinned, paths = [], {}
    for place, entry in enumerate(attacks):
        ((name, options),) = entry.items()
        outside = list_attack_paths(name)
        if outside:
            with prefix_errors(f"{place}.{name}."):
                found = make_plugin("attacks", "Attack", name, options).find_files(data)
            options = collect_key_options(found)
            paths |= {f"{ATTACK_PREFIX}{place}.{option}": options[option] for option in outside}
        pinned.append({name: {k: v for k, v in options.items() if k not in outside}})
    return pinned, paths


def extract_attack_paths(run: Mapping[str, str], place: int) -> dict[str, str]:
    """The paths of the files of a suite's attack, read from a job."""
    prefix = f"{ATTACK_PREFIX}{place}."
    return {k.removeprefix(prefix): v for k, v in run.items() if k.startswith(prefix)}


PluginFolders = Annotated[tuple[str, ...], BeforeValidator(list_plugin_folders)]
Plugin = dict[str, dict[str, Any]]  # in a spec: {name: options}, which are checked already
ObjectiveSpec = Annotated[dict[str, dict], make_plugin_validator("objectives", "Objective")]
AttackSpec = Annotated[dict[str, dict], make_plugin_validator("attacks", "Attack")]
LossSpec = Annotated[dict[str, dict], make_plugin_validator("generator_losses", "Loss")]
