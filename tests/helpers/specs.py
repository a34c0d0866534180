"""Specs written by hand: what every one of a kind must say, beside what a test is about."""

from pipeline.config.sections.bank import BankSpec
from pipeline.config.sections.generator import GeneratorSpec
from pipeline.config.specs import read_spec

COMPUTED = {"seed": 0, "device": "cpu"}
LEAST: dict[str, dict] = {  # by kind
    "dataset": {"source": "cifar10", "train": 16},
    "teacher": COMPUTED,
    "discretizer": COMPUTED,
    "bank": COMPUTED | {"reject": "drop"},
    "generator": COMPUTED | {"model": "resnet8-s2-w4"},
    "student": COMPUTED | {"model": "resnet8-s2-w4", "objective": {"natural": {}}},
    "evaluation": COMPUTED | {"attacks": []},
    "report": {"names": []},
}


def completed(kind: str, values: dict) -> dict:
    """The values of a spec with what its kind must say beside them."""
    return {**LEAST[kind], **values}


def bank_spec(**values: object) -> BankSpec:
    """A bank's spec; without ``reject`` it holds no samples."""
    return read_spec("bank", {**COMPUTED, **values})


def generator_spec(values: dict) -> GeneratorSpec:
    """A generator's spec."""
    return read_spec("generator", completed("generator", values))
