"""Reading a configuration: recipes are merged in, and a fault is one line with its path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, ValidationError

from pipeline.config.dataset_counts import settle_datasets
from pipeline.config.names import NAMED_SECTIONS, check_names
from pipeline.config.plugin_fields import PluginFolders, use_configured_plugins
from pipeline.config.recipe import Recipe
from pipeline.config.sections.bank import BankSettings
from pipeline.config.sections.dataset import DatasetSettings
from pipeline.config.sections.discretizer import DiscretizerSettings
from pipeline.config.sections.generator import GeneratorSettings
from pipeline.config.sections.student import StudentSettings
from pipeline.config.sections.teacher import TeacherSettings
from pipeline.config.sources import ConfigSource, read_sources
from pipeline.config.suites import ReportSettings, RunSettings, SuiteSettings
from pipeline.config.sweep import expand_grids
from pipeline.discovery import name_plugin_faults, suggest_known
from pipeline.errors import RetortError
from pipeline.resources import find_device
from pipeline.schema import (
    DeviceChoice,
    Folder,
    NonNegativeInt,
    PositiveInt,
    Section,
    format_validation_error,
    parse_fractions,
)


class Config(Section):
    """The configuration of an experiment.

    Attributes:
        store: folder of everything that is made.
        seed: seed of everything that is drawn, unless a section has its own seeds.
        device: what computes; `auto` is `cuda` where the planning machine has a GPU, else `cpu`.
        strict_code: whether every edit of a module counts in the keys, and not its `REVISION`
            alone.
        gpus: number of GPUs of each training whose recipe does not say otherwise.
        plugins: folders of your own plug-ins, or one folder.
        run: how jobs run; nothing of it is in a key.
        recipes: how networks are trained; a section's `recipe` names one of them.
        datasets: images and labels, by name.
        teachers: networks to learn from, by name.
        discretizers: VQGANs that turn images into discrete tokens and back, by name.
        banks: adversarial samples and teachers' outputs, made once for all students, by name.
        generators: networks that make images without data, by name.
        students: networks to be made, by name.
        suites: lists of attacks, by name.
        report: the page with all results; without this section none is written.
    """

    store: Folder = "store"
    seed: NonNegativeInt = 0
    device: DeviceChoice = "cpu"
    strict_code: bool = False  # the code's fingerprint is in every key
    gpus: PositiveInt = 1  # default of every recipe's ``gpus``
    plugins: PluginFolders = ()  # folders of the user's own plug-ins
    run: RunSettings = RunSettings()
    recipes: dict[str, dict] = {}
    datasets: dict[str, DatasetSettings] = {}
    teachers: dict[str, TeacherSettings] = {}
    discretizers: dict[str, DiscretizerSettings] = {}
    banks: dict[str, BankSettings] = {}
    generators: dict[str, GeneratorSettings] = {}
    students: dict[str, StudentSettings] = {}
    suites: dict[str, SuiteSettings] = {}
    report: ReportSettings | None = None
    _source: ConfigSource = PrivateAttr(default=ConfigSource())

    @property
    def source(self) -> ConfigSource:
        """Where it was read; empty for a configuration from plain dicts."""
        return self._source


TRAINED_SECTIONS = ("teachers", "discretizers", "generators", "students")
RECIPE_OVERRIDES = ("epochs", "gpus")  # fields that a section may set beside its recipe


def merge_recipes(raw: dict) -> dict:
    """The configuration with each `recipe: name` replaced by the recipe of that name.

    A section's own `epochs` and `gpus` override those of its recipe.

    Raises:
        RetortError: there is no recipe of that name.
    """
    recipes, merged = raw.get("recipes") or {}, dict(raw)
    for section in TRAINED_SECTIONS:
        entries = {}
        if not isinstance(raw.get(section), dict):
            continue
        for name, entry in raw[section].items():
            if isinstance(entry, dict):
                entry = dict(entry)
                recipe = entry.get("recipe", {})
                if isinstance(recipe, str):
                    if recipe not in recipes:
                        hint = suggest_known(recipe, recipes)
                        raise RetortError(f"{section}.{name}.recipe: no recipe '{recipe}'{hint}")
                    recipe = recipes[recipe]
                if isinstance(recipe, dict):
                    recipe = recipe | {
                        name: entry.pop(name) for name in RECIPE_OVERRIDES if name in entry
                    }
                    if recipe and "gpus" in raw:
                        recipe = {"gpus": raw["gpus"], **recipe}
                entry["recipe"] = recipe
            entries[name] = entry
        merged[section] = entries
    return merged


def parse_config(raw: dict) -> Config:
    """A configuration from plain dicts and lists, its data sets' counts as numbers.

    Raises:
        RetortError: one line with the dotted path of the first fault and the remedy.
    """
    raw = {k: v for k, v in raw.items() if v is not None}
    use_configured_plugins(raw)
    try:
        recipes = raw.get("recipes") or {}
        if not isinstance(recipes, dict):
            raise RetortError("recipes: a mapping of names to recipes is expected")
        for name, recipe in recipes.items():
            check_recipe(name, recipe)
        students = raw.get("students")
        if isinstance(students, dict):
            raw["students"] = expand_grids("students", students)
        for section in NAMED_SECTIONS:
            if isinstance(raw.get(section), dict):
                check_names(section, raw[section])
        with name_plugin_faults():
            config = Config.model_validate(merge_recipes(raw))
    except ValidationError as error:
        raise RetortError(format_validation_error(error, Config)) from error
    with name_plugin_faults():
        datasets = settle_datasets(config.datasets, Path(config.run.data))
    device = find_device() if config.device == "auto" else config.device
    return config.model_copy(update={"datasets": datasets, "device": device})


def check_recipe(name: str, recipe: Any) -> None:
    """Checks a named recipe, so that a fault is reported once, with the recipe's path."""
    try:
        Recipe.model_validate(parse_fractions(recipe))
    except ValidationError as error:
        raise RetortError(format_validation_error(error, Recipe, "recipes", str(name))) from error


def read_config(*paths: Path, given: Mapping[str, Any] | None = None) -> Config:
    """The configuration in files; a later file wins, as in Snakemake's `--configfile`.

    Args:
        paths: the files.
        given: values given on the command line, which win over all files.

    Raises:
        RetortError: a file cannot be read or is not YAML, or a fault found by ``parse_config``. The
            message begins with file and line.
    """
    source = read_sources(paths, given)
    with source.locate_errors():
        config = parse_config(source.values)
    config._source = source
    return config
