"""Specs as objects, which jobs read; omitted fields have their defaults."""

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from pipeline.config.sections.bank import BankSpec
from pipeline.config.sections.dataset import DatasetSpec
from pipeline.config.sections.discretizer import DiscretizerSpec
from pipeline.config.sections.generator import GeneratorSpec
from pipeline.config.sections.student import StudentSpec
from pipeline.config.sections.teacher import TeacherSpec
from pipeline.config.suites import EvaluationSpec, ReportSpec
from pipeline.errors import RetortError
from pipeline.schema import Section, format_validation_error

SPECS: dict[str, type[Section]] = {  # by kind of artefact
    "dataset": DatasetSpec,
    "teacher": TeacherSpec,
    "discretizer": DiscretizerSpec,
    "bank": BankSpec,
    "generator": GeneratorSpec,
    "student": StudentSpec,
    "evaluation": EvaluationSpec,
    "report": ReportSpec,
}


class HasSpec(Protocol):
    """A planned artefact, a job or a manifest."""

    kind: str
    key: str
    spec: dict


def read_spec(kind: str, values: Mapping[str, Any], place: str = "") -> Any:
    """The spec of a kind from its plain values; ``place`` names its artefact in messages.

    Raises:
        RetortError: an unknown or missing field, or an invalid value.
    """
    try:
        return SPECS[kind].model_validate(values)
    except ValidationError as error:
        what = format_validation_error(error, SPECS[kind], "spec")
        raise RetortError(
            f"{place or kind}: {what}; delete its spec.json, and manifest.json if there is one, "
            "and run 'retort run' again"
        ) from error


def get_spec(artefact: HasSpec) -> Any:
    """The spec of a planned artefact, a job or a manifest.

    Raises:
        RetortError: as in ``read_spec``.
    """
    return read_spec(artefact.kind, artefact.spec, f"{artefact.kind}/{artefact.key}")


def dump_spec(spec: Section) -> dict[str, Any]:
    """A spec as the plain JSON values that it was read from, without fields that were not given."""
    return spec.model_dump(mode="json", exclude_unset=True)
