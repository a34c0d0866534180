"""The generated reference: nothing lacks a description, and it says what the code says."""

from typing import Literal

import pytest

from docs.site import commands, reference
from docs.site.descriptions import Field, format_number, list_section_fields, read_attributes
from pipeline.discovery import list_plugin_names
from pipeline.schema import PositiveInt, Section, Share
from tests.docs.test_blocks import check_command


class Example(Section):
    """A section.

    Attributes:
        width: number of channels.
        part: share of the images.
    """

    width: PositiveInt = 3
    part: Share
    mode: Literal["a", "b"] | None = None


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference.write_pages()


def test_every_setting_is_described():
    found = reference.find_undescribed()
    assert not found, "write a line under Attributes: in the docstring of its class"


def test_every_verb_and_option_is_described():
    found = commands.find_undescribed_options()
    assert not found, "give it a help text in pipeline/cli/arguments.py"


def test_a_field_is_read_from_schema_and_docstring():
    assert list_section_fields(Example) == [
        Field("width", "integer, above 0", "`3`", "number of channels."),
        Field("part", "number, at least 0 and at most 1", "required", "share of the images."),
        Field("mode", "`a`, `b`", "none", ""),
    ]
    assert [field.unit for field in list_section_fields(Example)] == ["count", "share", ""]


def test_a_description_may_span_lines():
    text = "X.\n\nAttributes:\n    a: one: two\n        three.\n    b: four.\n"
    assert read_attributes(text) == {"a": "one: two three.", "b": "four."}


@pytest.mark.parametrize(
    ("value", "text"),
    [(8 / 255, "8/255"), (5 / 6, "5/6"), (0.1, "0.1"), (1e-4, "0.0001"), (5e-4, "0.0005")],
)
def test_numbers_are_written_as_a_configuration_has_them(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("page", "folder"),
    [
        ("objectives", "objectives"),
        ("attacks", "attacks"),
        ("datasets", "datasets"),
        ("architectures", "architectures"),
        ("generator_losses", "generator_losses"),
    ],
)
def test_every_plugin_is_listed(pages, page, folder):
    text = pages[f"reference/{page}.md"]
    assert [name for name in list_plugin_names(folder) if f"\n## {name}\n" not in text] == []


def test_the_configuration_has_its_parts(pages):
    text = pages["reference/configuration.md"]
    for path in (
        "students.&lt;name>",
        "recipes.&lt;name>",
        "run.resources",
        "banks.&lt;name>.views",
    ):
        assert f"\n## {path} {{" in text, path
    assert "| `eps` | number, at least 0 | pixels of [0,1] | `0.1` |" in text


def test_examples_of_verbs_are_understood(pages):
    lines = [x for x in pages["reference/commands.md"].splitlines() if x.startswith("retort ")]
    assert len(lines) > 10
    for line in lines:
        name, *rest = line.partition(" > ")[0].split()
        check_command(name, rest)
