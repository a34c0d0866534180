"""Files with several sets of weights, or with more than tensors: what is taken and said."""

import argparse
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.cli.main import main
from pipeline.errors import RetortError
from pipeline.models.pretrained.checkpoint_files import load_foreign_weights, read_fitting_weights
from pipeline.models.pretrained.outlines import read_outline
from pipeline.models.pretrained.weight_sets import (
    describe_import,
    list_weight_sets,
    split_by_first_name,
    take_part,
)
from pipeline.planning.graph import make_plan_from_dict
from pipeline.store.artefact import compute_sha256
from tests.models.pretrained.test_checkpoint_files import network, prefixed, saved, weights
from tests.models.pretrained.test_teacher_checkpoint import with_file

ONE, TWO = torch.ones(2), torch.zeros(2)


def test_sets_are_mappings_of_nothing_but_tensors():
    content = {
        "epoch": 3,
        "model": {"a": ONE},
        "ema": {"decay": 0.9, "shadow": {"a": TWO}},
        "optimizer": {"state": {0: {"exp_avg": ONE}}, "param_groups": [{"lr": 1}]},
        "rng": ONE,
    }
    assert list(list_weight_sets(content)) == ["model", "ema.shadow"]
    assert list(list_weight_sets({"a": ONE})) == [""]
    assert list_weight_sets({"a": ONE, "n": 1}) == {}
    assert list_weight_sets([ONE]) == {}


def test_a_file_that_holds_itself_ends(tmp_path):
    content: dict = {"model": {"a": ONE}}
    content["self"] = content
    assert "model" in list_weight_sets(content)
    path, digest = saved(tmp_path / "x.pt", content)
    assert read_outline(path, digest)["model"]["a"].is_meta


def test_flat_sets_are_split_by_their_first_name():
    flat = {"student.a": ONE, "teacher.a": TWO, "teacher.b": TWO}
    parts = split_by_first_name("state_dict", flat)
    assert {name: list(part) for name, part in parts.items()} == {
        "state_dict.student": ["a"],
        "state_dict.teacher": ["a", "b"],
    }
    assert split_by_first_name("", {"model.a": ONE, "model.b": ONE}) == {}
    assert list(take_part({"state_dict": flat}, "state_dict.teacher", "f")) == ["a", "b"]
    with pytest.raises(RetortError, match=r"^f: has no 'net'; it has student.a, teacher.a"):
        take_part(flat, "net", "f")


def read(path: Path, content: object, take: str | None = None) -> tuple[str, dict]:
    """The weights that are taken from a file for a wrn-10-1."""
    where, digest = saved(path, content)
    return read_fitting_weights(
        where,
        digest,
        take,
        lambda state: load_foreign_weights(network("wrn-10-1", 3).to("meta"), state, str(where)),
    )


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


SEVERAL = ("model", "model_ema", "state_dict_ema", "ema", "net", "student")


@pytest.mark.parametrize("other", SEVERAL[1:])
def test_several_sets_that_fit_are_listed(tmp_path, other):
    one, two = weights(network("wrn-10-1", 1)), weights(network("wrn-10-1", 2))
    content = {"model": one, other: two, "epoch": 3}
    with pytest.raises(
        RetortError,
        match=rf"a.pt: holds 2 sets of weights that fit, model, {other}; choose one with "
        rf"'take: {other}' beside its path",
    ):
        read(tmp_path / "a.pt", content)
    assert same(read(tmp_path / "a.pt", content, other)[1], two)
    assert same(read(tmp_path / "a.pt", content, "model")[1], one)
    with pytest.raises(RetortError, match="a.pt: take: emma: has no 'emma'; it has model, "):
        read(tmp_path / "a.pt", content, "emma")


def test_several_sets_in_flat_names_are_listed_too(tmp_path):
    one, two = weights(network("wrn-10-1", 1)), weights(network("wrn-10-1", 2))
    flat = {"state_dict": prefixed(one, "student.") | prefixed(two, "ema.")}
    with pytest.raises(RetortError, match="that fit, state_dict.student, state_dict.ema; choose"):
        read(tmp_path / "a.pt", flat)
    assert same(read(tmp_path / "a.pt", flat, "state_dict.ema")[1], two)


def test_the_only_set_that_fits_is_taken_and_named(tmp_path, caplog):
    caplog.set_level("INFO", "retort")
    one, wide = weights(network("wrn-10-1", 1)), weights(network("wrn-10-1", 2, classes=100))
    name, found = read(tmp_path / "a.pt", {"model": wide, "student": one})
    assert name == "student"
    assert same(found, one)
    assert "a.pt: takes 'student', the only set of weights in it that fits" in caplog.text


def test_one_set_is_taken_without_a_word(tmp_path, caplog):
    caplog.set_level("INFO", "retort")
    assert read(tmp_path / "a.pt", {"net": weights(network("wrn-10-1", 1))})[0] == ""
    assert caplog.text == ""


def test_take_is_in_the_key_and_its_absence_is_not():
    def key(**checkpoint: object) -> str:
        plan = make_plan_from_dict(with_file(**checkpoint))
        return plan.artefacts[plan.refs_by_name["teacher", "robust"]].key

    assert key() != key(take="model_ema")
    assert key(take="model") != key(take="model_ema")


def test_unverified_is_in_no_key():
    raw = with_file()
    one = make_plan_from_dict(raw).refs_by_name
    del raw["teachers"]["robust"]["unverified"]
    raw["teachers"]["natural"]["unverified"] = True
    assert make_plan_from_dict(raw).refs_by_name == one


def test_a_file_with_arguments_says_the_command_that_extracts_it(tmp_path, capsys):
    state = weights(network("wrn-10-1", 1))
    content = {"state_dict": state, "args": argparse.Namespace(lr=1), "optimizer": {"state": {}}}
    path, digest = saved(tmp_path / "my model.pth", content)
    wanted = (
        f"retort import '{path}' '{tmp_path}/my model.safetensors' --take state_dict "
        f"--sha256 {digest}"
    )
    raw = with_file(path=str(path), sha256=digest)
    with pytest.raises(RetortError) as planned:
        make_plan_from_dict(raw)
    assert str(planned.value).startswith(
        f"teachers.robust.checkpoint: {path}: holds more than tensors (argparse.Namespace); take"
    )
    with pytest.raises(RetortError) as loaded:
        read_fitting_weights(path, digest, None, lambda state: None)
    for error in (planned, loaded):
        assert f"'{wanted}'" in str(error.value)
    command = shlex.split(wanted)
    assert main(command[1:]) == 0
    new = tmp_path / "my model.safetensors"
    assert compute_sha256(new) in capsys.readouterr().out
    make_plan_from_dict(with_file(path=str(new), sha256=compute_sha256(new)))


def test_the_command_for_a_file_of_several_sets_and_of_an_odd_name():
    found = describe_import(Path("a.safetensors"), {"ema": {"a": ONE}}, "0")
    assert found == "retort import a.safetensors a-tensors.safetensors --take ema --sha256 0"
    assert describe_import(Path("a.pt"), {"a": ONE}, "0").startswith("retort import a.pt a.safe")


def test_a_pickle_that_torch_does_not_load_needs_the_command_too(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"state_dict": {"a": ONE}}, path, pickle_protocol=4)
    with pytest.raises(
        RetortError, match="a pickle protocol of its own.*retort import .*--take st"
    ):
        read_outline(path, "0" * 64)


def other_model(tmp_path: Path) -> tuple[object, str]:
    return weights(network("resnet18-w4", 1)), r"'.*' is \[\d+.*\], the model wants \[\d+"


def other_classes(tmp_path: Path) -> tuple[object, str]:
    state = weights(network("wrn-10-1", 1, classes=100))
    return {"model": state}, r"'fc.\w+' is \[100.*\], the model wants \[10.*\]; do model and"


def lacking(tmp_path: Path) -> tuple[object, str]:
    state = weights(network("wrn-10-1", 1))
    del state["fc.bias"]
    return state, r"'fc.bias' is missing, 1 of \d+ in all; is 'model' the right one"


def too_many(tmp_path: Path) -> tuple[object, str]:
    state = weights(network("wrn-10-1", 1)) | {"block9.conv.weight": ONE}
    return state, "'block9.conv.weight' is in no such model; is 'model' the right one"


def two_sets(tmp_path: Path) -> tuple[object, str]:
    state = weights(network("wrn-10-1", 1))
    return {"model": state, "model_ema": state}, "holds 2 sets of weights that fit, model, model_"


def flattened(content: dict) -> dict:
    """A file's content as safetensors can hold it: sets become first names, one set is the file."""
    sets = {name: value for name, value in content.items() if isinstance(value, dict)}
    if len(sets) == 1:
        return dict(*sets.values())
    found = {
        n: v.clone() for name, value in sets.items() for n, v in prefixed(value, f"{name}.").items()
    }
    return found or content


MISFITS = (other_model, other_classes, lacking, too_many, two_sets)


@pytest.mark.parametrize("form", ["zip", "plain", "safetensors"])
@pytest.mark.parametrize("fault", MISFITS, ids=lambda f: f.__name__)
def test_a_plan_says_what_does_not_fit_without_reading_numbers(tmp_path, fault, form):
    content, words = fault(tmp_path)
    path = tmp_path / "x.pt"
    if form == "safetensors":
        save_file(flattened(content), path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(RetortError, match=rf"^teachers.robust.checkpoint: {path}: {words}"):
        make_plan_from_dict(with_file(path=str(path)))


def test_what_is_absent_or_made_is_not_looked_at(tmp_path):
    path = tmp_path / "x.pt"
    raw = {**with_file(path=str(path)), "store": str(tmp_path / "store")}
    plan = make_plan_from_dict(raw)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(RetortError, match=r"^teachers.robust.checkpoint: .*is no checkpoint"):
        make_plan_from_dict(raw)
    made = plan.manifest_path(plan.refs_by_name["teacher", "robust"])
    made.parent.mkdir(parents=True)
    made.write_text("{}")
    make_plan_from_dict(raw)


def test_an_outline_is_read_once_while_the_file_stays_the_same(tmp_path, monkeypatch):
    path, digest = saved(tmp_path / "x.pt", {"a": torch.zeros(3, 4)})
    first = read_outline(path, digest)
    assert first["a"].is_meta and first["a"].shape == (3, 4)
    assert read_outline(path, digest) is first
    saved(path, {"a": torch.zeros(5)})
    assert read_outline(path, digest)["a"].shape == (5,)
