"""The pages under reference/: made from the schema, the dataclasses and the parser as they are."""

from collections.abc import Iterator, Mapping

from docs.site.commands import write_commands
from docs.site.descriptions import (
    Field,
    find_section_classes,
    list_plugin_fields,
    list_section_fields,
    read_attributes,
    read_text,
)
from pipeline.config.dataset_source import OPTIONS_CLASS
from pipeline.config.reader import Config
from pipeline.config.recipe import Recipe
from pipeline.core.attack_protocol import AttackPoint
from pipeline.discovery import load_plugins
from pipeline.report.results.files import NAMING_FIELDS
from pipeline.report.results.rows import ResultRow, get_column_types
from pipeline.stages.evaluate import OUTCOME_SCHEMA

ENTRY_NAMES = {  # a named section -> how its entries are called in headings
    "datasets": "datasets.<name>",
    "teachers": "teachers.<name>",
    "discretizers": "discretizers.<name>",
    "banks": "banks.<name>",
    "generators": "generators.<name>",
    "students": "students.<name>",
    "suites": "suites.<name>",
}
NAMED_KINDS = {  # a field whose schema does not say it -> what may stand there
    "source": "a [source](datasets.md)",
    "objective": "an [objective](objectives.md)",
    "attacks": "list: [attacks](attacks.md)",
    "losses": "a [generator's loss](generator_losses.md)",
    "recipe": "name, or [settings](#recipe)",
    "recipes": "names, each with [settings](#recipe)",
    "pretrained": "[settings](#openclipweights) or `random`",
}
NAMED_DEFAULTS = {  # a field whose default depends on others -> what it is
    "recipe": "its defaults",
    "train": "see above",
    "val": "see above",
    "test": "see above",
}
OUTCOME_WORDS = {
    "epoch": "epoch whose weights were evaluated; empty for the exported weights",
    "index": "row of the test image in its data set",
    "label": "its class, as a number in the data set's order",
    "prediction": "the class that the model predicts on the attacked image",
    "confidence": "probability of the predicted class on the image as it is; empty under attack",
}


def write_pages() -> dict[str, str]:
    """Every generated page by its path below docs/."""
    return {
        "reference/configuration.md": write_configuration(),
        "reference/objectives.md": write_plugins(
            "Objectives",
            "objectives",
            "`objective: rslad`, or with options `objective: {rslad: {steps: 3}}`. "
            "[Methods](../methods/index.md) has their equations and costs. "
            f"{describe_released()}",
            "Objective",
        ),
        "reference/attacks.md": write_plugins(
            "Attacks",
            "attacks",
            "Attacks of a suite: `attacks: [clean, {pgd: {steps: 50, eps: 4/255}}]`. Each is one "
            "image, one prediction; [outcomes](outcomes.md) says how they are kept.",
            "Attack",
        ),
        "reference/datasets.md": write_plugins(
            "Sources of data sets",
            "datasets",
            '`source: cifar10`, or with options `source: {npz: {path: ddpm.npz, version: "1"}}`.',
            OPTIONS_CLASS,
        ),
        "reference/architectures.md": write_architectures(),
        "reference/generator_losses.md": write_plugins(
            "Generators' losses",
            "generator_losses",
            "What a generator minimises: `losses: cmi`, or with options "
            "`losses: {cmi: {adv: 1}}`. [The methods](../methods/derd.md) have the equations.",
            "Loss",
        ),
        "reference/commands.md": write_commands(),
        "reference/outcomes.md": write_outcomes(),
    }


def format_fields(fields: list[Field]) -> str:
    """Fields as a table."""
    rows = [
        f"| `{f.name}` | {f.kind} | {f.unit} | {f.default} | {escape(f.description)} |"
        for f in fields
    ]
    head = ["| key | type | unit | default | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def escape(text: str) -> str:
    """Text that may stand in the cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def format_prose(docstring: str | None) -> str:
    """A docstring's text as Markdown: its names in double backticks and its angle brackets."""
    return read_text(docstring).replace("*", "\\*").replace("<", "&lt;")


def list_sections() -> Iterator[tuple[str, type]]:
    """The path and class of every section, parents first, each class once."""
    seen: set[type] = set()

    def visit(path: str, target: type) -> Iterator[tuple[str, type]]:
        if target in seen:
            return
        seen.add(target)
        yield path, target
        for name, info in target.model_fields.items():
            below = ENTRY_NAMES.get(name, name) if target is Config else f"{path}.{name}"
            for inner in find_section_classes(info.annotation):
                yield from visit(below, inner)

    yield from visit("", Config)


def list_configuration_fields() -> Iterator[tuple[str, type, list[Field]]]:
    """The path, class and fields of every section."""
    for path, target in list_sections():
        yield path, target, [describe_by_name(f) for f in list_section_fields(target)]


def describe_by_name(field: Field) -> Field:
    """The field, with its type and default in words where its schema does not say them."""
    kind = NAMED_KINDS.get(field.name, field.kind)
    default = NAMED_DEFAULTS.get(field.name, field.default)
    return Field(field.name, kind, default, field.description)


def write_configuration() -> str:
    """The page of the configuration's keys."""
    parts = [
        "# Configuration",
        "Every key of a configuration, made from the schema that reads it. A fraction such as "
        "`8/255` is a number. Of what has a neutral default, nothing is in a key while it has that "
        "default ([keys and reruns](../explanation/keys.md)).",
    ]
    for path, target, fields in list_configuration_fields():
        title = "The top level" if target is Config else path
        if target is Recipe:
            title = "recipes.<name>"
        parts += [f"## {title.replace('<', '&lt;')} {{ #{target.__name__.lower()} }}"]
        parts += [format_prose(target.__doc__), format_fields(fields)]
    return "\n\n".join(parts) + "\n"


def write_plugins(title: str, folder: str, intro: str, class_name: str) -> str:
    """A page of plug-ins: source, formula and options of each."""
    parts = [f"# {title}", intro]
    for module in load_plugins(folder):
        parts += [f"## {module.__name__.rpartition('.')[2]}", format_prose(module.__doc__)]
        target = getattr(module, class_name, None)
        if target is None:
            continue
        parts.append(format_prose(target.__doc__))
        fields = list_plugin_fields(target)
        parts.append(format_fields(fields) if fields else "It has no options.")
    return "\n\n".join(parts) + "\n"


def describe_released() -> str:
    """What `preset: released` stands for in the objectives that have it."""
    found = {
        module.__name__.rpartition(".")[2]: module.RELEASED
        for module in load_plugins("objectives")
        if hasattr(module, "RELEASED")
    }
    values = [
        f"`{name}` ({', '.join(f'`{key}: {value}`' for key, value in options.items())})"
        for name, options in found.items()
    ]
    return f"`preset: released` sets the released code's values: {', '.join(values)}."


def write_architectures() -> str:
    """The page of networks: the form of their names."""
    parts = ["# Architectures", "A network is named by `model:`; its file decides which names."]
    for module in load_plugins("architectures"):
        name = module.__name__.rpartition(".")[2]
        parts += [f"## {name}", f"`model: {module.NAME_FORMAT}`", format_prose(module.__doc__)]
    return "\n\n".join(parts) + "\n"


def write_outcomes() -> str:
    """The page of the files that an evaluation and a report write."""
    words = read_attributes(ResultRow.__doc__) | read_outcome_words()
    named = [(name, str(kind)) for name, kind in NAMING_FIELDS]
    results = [(name, kind.__name__) for name, kind in get_column_types().items()]
    parts = [
        "# outcomes.parquet, results.csv",
        "An evaluation's folder holds `outcomes.parquet`, one row for each image and attack. A "
        "column is empty where it does not apply to the attack. "
        "[Reading results in pandas](../howto/results.md) has examples.",
        tabulate_columns([(c.name, str(c.type)) for c in OUTCOME_SCHEMA], words),
        "## Beside the report: outcomes.parquet",
        "All evaluations' outcomes in one file, each row with these columns before its own:",
        tabulate_columns(named, words | read_attributes(ResultRow.__doc__)),
        "## Beside the report: results.csv",
        "One row for each model, test set and attack. Shares are in [0,1]; empty cells do not "
        "apply.",
        tabulate_columns(results, read_outcome_words() | read_attributes(ResultRow.__doc__)),
    ]
    return "\n\n".join(parts) + "\n"


def read_outcome_words() -> dict[str, str]:
    """What each column of an evaluation's outcomes means."""
    return read_attributes(AttackPoint.__doc__) | OUTCOME_WORDS


def tabulate_columns(columns: list[tuple[str, str]], words: Mapping[str, str]) -> str:
    """A table of columns: name, type and meaning."""
    rows = [f"| `{name}` | {kind} | {escape(words.get(name, ''))} |" for name, kind in columns]
    return "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])


def find_undescribed() -> list[str]:
    """Every field, plug-in and column that has no description, by its place."""
    found = [
        f"{path or 'configuration'}.{field.name} ({target.__name__})"
        for path, target, fields in list_configuration_fields()
        for field in fields
        if not field.description
    ]
    classes = {
        "objectives": "Objective",
        "attacks": "Attack",
        "datasets": OPTIONS_CLASS,
        "generator_losses": "Loss",
    }
    for folder, class_name in classes.items():
        for module in load_plugins(folder):
            target = getattr(module, class_name, None)
            for field in list_plugin_fields(target) if target else []:
                if not field.description:
                    found.append(f"{module.__name__}.{field.name}")
    columns = read_outcome_words()
    found += [f"outcomes.{name}" for name in OUTCOME_SCHEMA.names if name not in columns]
    columns |= read_attributes(ResultRow.__doc__)
    names = (*get_column_types(), *(name for name, _ in NAMING_FIELDS))
    return found + [f"results.{name}" for name in names if name not in columns]
