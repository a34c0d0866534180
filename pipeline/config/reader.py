"""Reading a configuration: recipes merged in, every fault one line with its path."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.names import NAMED, check_names
from pipeline.config.recipe import Recipe
from pipeline.config.sections.bank import Bank
from pipeline.config.sections.dataset import Dataset
from pipeline.config.sections.discretizer import Discretizer
from pipeline.config.sections.generator import Generator
from pipeline.config.sections.student import Student
from pipeline.config.sections.teacher import Teacher
from pipeline.config.suites import Report, Run, Suite
from pipeline.config.sweep import expand
from pipeline.discovery import suggestion
from pipeline.errors import RetortError
from pipeline.schema import Count, Device, Positive, Section, fraction, render


class Config(Section):
    """A whole experiment."""

    store: str = "store"
    seed: Count = 0
    device: Device = "cpu"
    strict_code: bool = False  # the code's fingerprint is in every key
    gpus: Positive = 1  # of every recipe that names no number
    run: Run = Run()
    recipes: dict[str, dict] = {}
    datasets: dict[str, Dataset] = {}
    teachers: dict[str, Teacher] = {}
    discretizers: dict[str, Discretizer] = {}
    banks: dict[str, Bank] = {}
    generators: dict[str, Generator] = {}
    students: dict[str, Student] = {}
    suites: dict[str, Suite] = {}
    report: Report | None = None


TRAINED = ("teachers", "discretizers", "generators", "students")
OWN = ("epochs", "gpus")  # what an entry may say beside its recipe


def merge_recipes(raw: dict) -> dict:
    """Replace `recipe: name` by the named recipe; an entry's own `epochs` and `gpus` override it.

    Raises:
        RetortError: a recipe is named that does not exist.
    """
    recipes, merged = raw.get("recipes") or {}, dict(raw)
    for section in TRAINED:
        entries = {}
        if not isinstance(raw.get(section), dict):
            continue
        for name, entry in raw[section].items():
            if isinstance(entry, dict):
                entry = dict(entry)
                recipe = entry.get("recipe", {})
                if isinstance(recipe, str):
                    if recipe not in recipes:
                        hint = suggestion(recipe, recipes)
                        raise RetortError(f"{section}.{name}.recipe: no recipe '{recipe}'{hint}")
                    recipe = recipes[recipe]
                if isinstance(recipe, dict):
                    recipe = recipe | {name: entry.pop(name) for name in OWN if name in entry}
                    if recipe and "gpus" in raw:
                        recipe = {"gpus": raw["gpus"], **recipe}
                entry["recipe"] = recipe
            entries[name] = entry
        merged[section] = entries
    return merged


def parse(raw: dict) -> Config:
    """A configuration from plain dicts and lists.

    Raises:
        RetortError: one line with the dotted path of the first fault and what to do.
    """
    raw = {k: v for k, v in raw.items() if v is not None}
    try:
        recipes = raw.get("recipes") or {}
        if not isinstance(recipes, dict):
            raise RetortError("recipes: a mapping of names to recipes is expected")
        for name, recipe in recipes.items():
            check_recipe(name, recipe)
        students = raw.get("students")
        if isinstance(students, dict):
            raw["students"] = expand("students", students)
        for section in NAMED:
            if isinstance(raw.get(section), dict):
                check_names(section, raw[section])
        return Config.model_validate(merge_recipes(raw))
    except ValidationError as error:
        raise RetortError(render(error)) from error


def check_recipe(name: str, recipe: Any) -> None:
    """Check a named recipe where it stands, so that the fault is reported there once."""
    try:
        Recipe.model_validate(fraction(recipe))
    except ValidationError as error:
        raise RetortError(render(error, "recipes", str(name))) from error


def read(path: Path) -> Config:
    """A configuration file.

    Raises:
        RetortError: no such file, no YAML, or ``parse``'s complaint.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RetortError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise RetortError(f"{path}: not valid YAML: {line}") from error
    if not isinstance(raw, dict):
        raise RetortError(f"{path}: a mapping of sections is expected")
    return parse(raw)
