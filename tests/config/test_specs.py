"""Specs: every planned spec is read as an object and written back unchanged."""

from pathlib import Path

import pytest

from pipeline.config.reader import read_config
from pipeline.config.sections.bank import BankSpec
from pipeline.config.specs import SPECS, dump_spec, get_spec, read_spec
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.store.artefact import STAGES_BY_KIND

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = [
    *sorted((ROOT / "workflow/presets").glob("*.yaml")),
    ROOT / "tests/helpers/tiny.yaml",
    ROOT / "tests/helpers/small.yaml",
]
BANK = {"shards": 2, "block": 64, "seed": 0, "device": "cpu"}


def test_every_kind_has_a_spec():
    assert SPECS.keys() == set(STAGES_BY_KIND)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_planned_specs_are_written_as_they_were_read(path):
    entries = make_plan(read_config(path)).artefacts.values()
    assert entries
    for entry in entries:
        assert dump_spec(get_spec(entry)) == entry.spec


def test_what_is_left_out_has_the_default_of_its_section():
    bank = read_spec("bank", BANK)
    assert (bank.encoding, bank.quality, bank.tokens, bank.views) == ("blocks", 95, False, None)
    assert (bank.outputs.top_k, bank.outputs.clean, bank.has_samples) == (0, True, False)
    student = read_spec(
        "student",
        {"model": "resnet18", "objective": {"kd": {}}, "recipe": {}, "seed": 1, "device": "cuda"},
    )
    assert (student.normalise, student.label_free, student.sampling.learns) == (
        "dataset",
        False,
        True,
    )
    assert (student.recipe.gpus, student.recipe.epochs) == (1, 200)


def test_a_bank_of_samples_that_are_not_attacked():
    bank = read_spec("bank", {**BANK, "attack": None, "reject": "keep", "encoding": "tokens"})
    assert isinstance(bank, BankSpec)
    assert bank.has_samples
    assert bank.has_tokens
    assert bank.attack is None


def test_a_discretizer_has_its_own_shape_or_that_of_its_file():
    own = read_spec("discretizer", {"ch": 64, "ch_mult": [1, 2], "seed": 0, "device": "cpu"})
    assert (own.shape.ch, own.shape.ch_mult, own.shape.unshuffle) == (64, (1, 2), 2)
    assert read_spec("discretizer", {"checkpoint": {"sha256": "0" * 64}}).shape is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shards": 0}, "bank/0123456789ab: spec.shards: .*number above 0 is expected"),
        ({"shard": 2}, "bank/0123456789ab: spec.shard: unknown; did you mean 'shards'"),
        ({"views": {"mixup": "x"}}, "bank/0123456789ab: spec.views.mixup: .*number"),
    ],
)
def test_bad_values_name_the_artefact_and_the_field(values, message):
    with pytest.raises(RetortError, match=message):
        read_spec("bank", BANK | values, "bank/0123456789ab")
