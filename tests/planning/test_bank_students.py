"""Students of every form of bank, trained by their stage with no teacher anywhere in reach."""

import pytest

from pipeline.banks.shards import shard_name
from pipeline.config.recipe import Recipe
from pipeline.errors import RetortError
from pipeline.objectives import dad, dad_augment, kd, rslad, rslad_dad
from pipeline.planning.graph import make_plan_from_dict
from pipeline.schema import dump_section, flatten_options
from pipeline.stages import distill
from pipeline.store import artefact
from pipeline.store.artefact import JOB_FILE, Job, read_job, write_json
from tests.helpers.bank_store import BASE, CLASSES, SAMPLES, Store, key_of, store_in
from tests.helpers.plain import make_objective
from tests.planning.test_plan import small

TOP = {"outputs": {"top_k": 3, "temperature": 4.0, "clean": True, "classes": CLASSES}}
REPLAY = {"count": 2, "augment": "crop_flip", "rand_augment": 0, "mixup": 0.8, "cutmix": 1.0}
VIEWS = {"views": REPLAY}
ATTACKED = {"eps": 8 / 255, "step": 4 / 255, "steps": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return store_in(tmp_path_factory.mktemp("students"))


def student(store: Store, bank: Job, objective: dict, **recipe: object) -> Job:
    """The job file of a student of a bank and of nothing else but its data set."""
    plain = {"epochs": 2, "batch": 11, "augment": "none", "lr": 0.05}
    spec = {
        "model": "resnet8-s2-w8",
        "objective": objective,
        "recipe": dump_section(Recipe(**plain | recipe)),
        "seed": 0,
        "device": "cpu",
    }
    name = f"{bank.name} {objective} {recipe}"
    folder, inputs = store.folder("student", name), {"dataset": f"dataset/{key_of('data')}"}
    order = {"kind": "student", "name": "student", "key": key_of(name), "spec": spec}
    inputs["bank"] = f"bank/{bank.key}"
    run = {"checkpoint_seconds": 60}
    write_json(folder / JOB_FILE, {**order, "inputs": inputs, "code": {}, "run": run})
    return read_job(folder)


CASES = {
    "cached": (SAMPLES, {"dad": vars(dad.Objective())}),
    "top 3": ({**SAMPLES, **TOP}, {"dad": vars(dad.Objective())}),
    "jpeg": ({**SAMPLES, "encoding": "jpeg"}, {"dad": vars(dad.Objective())}),
    "replay": ({**SAMPLES, **VIEWS}, {"dad": vars(dad.Objective())}),
    "pairs": (SAMPLES, {"rslad_dad": vars(rslad_dad.Objective())}),
    "pairs of views": ({**SAMPLES, **VIEWS}, {"rslad_dad": vars(rslad_dad.Objective())}),
    "outputs": (BASE, {"kd": vars(kd.Objective())}),
    "outputs on views": ({**BASE, **VIEWS}, {"kd": vars(kd.Objective())}),
    "outputs, attacked": (BASE, {"rslad": flatten_options(make_objective(rslad, **ATTACKED))}),
    "augmentation": ({**SAMPLES, "attack": None}, {"dad_augment": vars(dad_augment.Objective())}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_student_needs_its_bank_and_no_teacher(store, name):
    spec, objective = CASES[name]
    job = student(store, store.made(name, **spec), objective)
    manifest = distill.run(job)
    assert "model.safetensors" in manifest.files
    assert manifest.facts["epochs"] == 2


@pytest.mark.parametrize("mixed", [{"mixup": 0.8}, {"cutmix": 1.0}, {"rand_augment": 9}])
def test_samples_augment_and_mix_where_no_output_is_read(store, mixed):
    bank = store.made("augmentation", **{**SAMPLES, "attack": None})
    job = student(store, bank, {"dad_augment": vars(dad_augment.Objective())}, epochs=1, **mixed)
    assert distill.run(job).facts["epochs"] == 1


def test_damage_is_found_before_training(store, monkeypatch):
    bank = store.made("damaged", **SAMPLES)
    path = bank.folder / shard_name(2)
    path.write_bytes(path.read_bytes()[:-512])
    artefact.verify.cache_clear()
    monkeypatch.setattr(distill, "fit", None)
    with pytest.raises(RetortError, match=r"shard-00002\.tar: does not match its manifest's"):
        distill.run(student(store, bank, {"dad": vars(dad.Objective())}))


def test_four_students_and_two_experiments_are_one_bank():
    """Another experiment's bank of another name, teachers and discretiser of other names too."""
    raw, other = small(), small()
    for plan in (raw, other):
        plan["students"] = {
            name: {**plan["students"]["dad"], "objective": name} for name in ("dad", "kd")
        }
    renamed = {"natural": "first", "vq": "codes", "dad": "samples"}
    for section in ("teachers", "discretizers", "banks"):
        other[section] = {renamed.get(k, k): v for k, v in other[section].items()}
    other["banks"]["samples"] |= {"teacher": "first", "discretizer": "codes"}
    for section in other["students"].values():
        section["bank"] = "samples"
        section["model"] = "resnet8-s2-w4"
    plans = [make_plan_from_dict(p) for p in (raw, other)]
    students = {ref for p in plans for ref in p.artefacts if ref.startswith("student/")}
    banks = {ref for p in plans for ref in p.artefacts if ref.startswith("bank/")}
    read = {
        p.artefacts[ref].inputs["bank"].ref for p in plans for ref in p.artefacts if ref in students
    }
    assert len(students) == 4
    assert read == banks
    assert len(banks) == 1
