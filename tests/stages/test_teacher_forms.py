"""A student's teachers and a bank's networks in another form: recorded, and near the plain one."""

import copy

import numpy as np
import pytest
import torch

from pipeline.banks.networks import form_discretizer
from pipeline.banks.reader import read_bank
from pipeline.config.recipe import Recipe
from pipeline.config.sections.bank import BankSpec
from pipeline.core.images import scale_to_unit_range
from pipeline.errors import RetortError
from pipeline.objectives import rslad
from pipeline.planning.graph import make_plan_from_dict
from pipeline.schema import dump_section, flatten_options
from pipeline.stages import distill
from pipeline.store.artefact import JOB_FILE, read_job, write_json
from tests.helpers import bank_store
from tests.helpers.bank_store import SAMPLES, Store, key_of, store_in
from tests.helpers.graph import tiny
from tests.helpers.plain import make_objective


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return store_in(tmp_path_factory.mktemp("teachers"))


def trained(store: Store, **recipe: object) -> dict:
    """The facts of a student whose live teacher is attacked with it."""
    name = f"student {recipe}"
    plain = {"epochs": 1, "batch": 11, "augment": "none", "lr": 0.05}
    spec = {
        "model": "resnet8-s2-w8",
        "objective": {"rslad": flatten_options(make_objective(rslad, steps=1))},
        "recipe": dump_section(Recipe(**plain | recipe)),
        "seed": 0,
        "device": "cpu",
    }
    inputs = {kind: f"{kind.rstrip('s')}/{key_of(of)}" for kind, of in (("dataset", "data"),)}
    inputs["teachers.teacher"] = f"teacher/{key_of('teacher')}"
    order = {"kind": "student", "name": "s", "key": key_of(name), "spec": spec, "inputs": inputs}
    folder = store.folder("student", name)
    write_json(folder / JOB_FILE, {**order, "code": {}, "run": {"checkpoint_seconds": 60}})
    return distill.run(read_job(folder)).facts


def test_a_student_of_a_folded_teacher_learns_the_same_and_names_the_form(store):
    plain, folded = trained(store), trained(store, teacher_form="folded")
    assert "teacher_form" not in plain
    assert folded["teacher_form"] == {"teacher": "9 of 9 BatchNorms folded"}
    terms = [facts["last"]["kd_adv"] for facts in (plain, folded)]
    assert terms[1] == pytest.approx(terms[0], rel=1e-3)


def test_weights_are_held_in_bf16_where_every_pass_is_in_bf16(store):
    found = trained(store, teacher_form="folded", bf16="both")
    assert found["teacher_form"] == {"teacher": "9 of 9 BatchNorms folded, weights held in bf16"}
    assert "held" not in str(trained(store, teacher_form="folded", bf16="inner"))


def made(store: Store, **form: object) -> dict:
    """The fields of a bank in a form."""
    spec = {**SAMPLES, "reject": "keep", "tokens": True, **form}
    return read_bank(store.made(f"form {form}", **spec).folder).fields


def test_a_bank_in_bf16_stores_the_teachers_outputs_to_three_percent(store):
    plain, rounded = made(store), made(store, bf16=True, teacher_form="folded")
    with torch.no_grad():
        said = bank_store.teacher()(scale_to_unit_range(rounded["x_adv"]))
    for found, wanted in ((rounded["t_clean"], plain["t_clean"]), (rounded["t_adv"], said)):
        gap = (found.float() - wanted.float()).abs().max()
        assert 0 < gap <= 0.03 * wanted.float().abs().max()


def test_a_folded_teacher_changes_the_last_bits_of_a_bank(store):
    plain, folded = made(store), made(store, teacher_form="folded")
    np.testing.assert_allclose(folded["t_clean"], plain["t_clean"], rtol=2e-3, atol=2e-3)
    assert (folded["tokens"] == plain["tokens"]).float().mean() >= 0.99


def test_tokens_in_bf16_are_as_near_as_the_latents_rounding_allows():
    """A code is at most twice the latent's error farther than the nearest one."""
    x, exact = scale_to_unit_range(bank_store.images()), bank_store.quantiser()
    spec = BankSpec(seed=0, device="cpu", bf16=True)
    rounded = form_discretizer(copy.deepcopy(exact), spec)
    with torch.no_grad():
        z, near = exact.encode(x), rounded.encode(x)
        codes = [exact.embed_tokens(q.encode_to_tokens(x)) for q in (exact, rounded)]
        image, other = exact.decode(codes[0]), rounded.decode(codes[0])
    best, chosen = ((z - code).norm(dim=1) for code in codes)
    assert (chosen <= best + 2 * (z - near).norm(dim=1) + 1e-6).all()
    assert (z - near).abs().max() <= 0.03 * z.abs().max()
    assert other.dtype == torch.float32
    assert 0 < (image - other).abs().max() <= 0.03


FOLDED = {"teacher_form": "folded"}


def test_forms_are_in_the_key_of_what_asks_for_them():
    raw = tiny()
    raw["banks"]["dad"] |= {"bf16": True}
    raw["students"]["rslad"]["recipe"] = {**FOLDED}
    plans = [make_plan_from_dict(plan) for plan in (tiny(), raw)]
    keys = [dict(p.refs_by_name) for p in plans]
    moved = {name for name in keys[0] if keys[0][name] != keys[1][name]}
    assert {("bank", "dad"), ("student", "rslad-0")} <= moved
    assert not {kind for kind, _ in moved} & {"teacher", "discretizer", "dataset", "generator"}
    entry = plans[1].artefacts[plans[1].refs_by_name["bank", "dad"]]
    assert "pipeline.models.frozen_forms" in entry.components


def test_a_student_of_a_generator_keeps_its_teacher():
    raw = tiny()
    raw["students"]["derd"]["recipe"] = {**FOLDED}
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(raw)
    assert str(caught.value) == (
        "students.derd.recipe.teacher_form: the loss of generator 'derd' may read the teacher's "
        "BatchNorms; drop it"
    )
