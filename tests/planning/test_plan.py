"""Plans: keys stand for content; what is edited is renamed with what it feeds, and nothing else.

`python -m tests.planning.test_plan` writes keys.json, the keys of tiny.yaml, anew. Do that only
where keys are meant to move, such as after raising a REVISION or editing tiny.yaml: every artefact
under an old key is then made again.
"""

import copy
import json
from pathlib import Path

import pytest
import yaml

from pipeline.config.reader import read_config
from pipeline.config.recipe import Recipe
from pipeline.config.sections.student import StudentSettings
from pipeline.planning.graph import make_plan, make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.schema import Section, dump_section, make_neutral_field
from pipeline.store import code_revisions
from pipeline.store.artefact import read_job

HELPERS = Path(__file__).parents[1] / "helpers"
SMALL, TINY = HELPERS / "small.yaml", HELPERS / "tiny.yaml"
KEYS = Path(__file__).with_name("keys.json")


def small() -> dict:
    """small.yaml as plain dicts."""
    return yaml.safe_load(SMALL.read_text())


def edited(path: str, value: object, raw: dict | None = None) -> dict:
    """A configuration with one dotted key set."""
    raw = copy.deepcopy(raw or small())
    place = raw
    *above, last = path.split(".")
    for key in above:
        place = place.setdefault(key, {})
    place[last] = value
    return raw


def keys(raw: dict) -> dict[str, str]:
    """`kind/name` -> key."""
    return table(make_plan_from_dict(raw))


def table(plan: Plan) -> dict[str, str]:
    return {f"{k}/{n}": ref.partition("/")[2] for (k, n), ref in sorted(plan.refs_by_name.items())}


def moved(raw: dict) -> set[str]:
    """Names whose key is not that of the small configuration."""
    before, after = keys(small()), keys(raw)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def named(*words: str) -> set[str]:
    """Names of the small plan that contain one of the words."""
    return {name for name in keys(small()) if any(word in name for word in words)}


def backwards(value: object) -> object:
    """The same mapping in the opposite order."""
    if isinstance(value, dict):
        return {k: backwards(v) for k, v in reversed(value.items())}
    return [backwards(v) for v in value] if isinstance(value, list) else value


def whole_numbers_as_floats(value: object) -> object:
    """The recipes' 0 and 1 as 0.0 and 1.0 where a real number is meant."""
    if isinstance(value, dict):
        real = ("lr", "weight_decay", "ema", "warmup", "checkpoint_seconds")
        return {
            k: float(v) if k in real and isinstance(v, int) else whole_numbers_as_floats(v)
            for k, v in value.items()
        }
    return value


def test_the_frozen_keys():
    assert table(make_plan(read_config(TINY))) == json.loads(KEYS.read_text()), (
        "keys moved, so that finished work would be made again: undo the change, or, where it is "
        "meant, run `python -m tests.planning.test_plan` and say why in the commit"
    )


def test_a_key_is_twelve_hex_digits_and_the_folder():
    plan = make_plan_from_dict(small())
    for ref, entry in plan.artefacts.items():
        assert len(entry.key) == 12
        assert int(entry.key, 16) >= 0
        assert plan.manifest_path(ref) == Path("store") / entry.kind / entry.key / "manifest.json"


def test_order_comments_and_the_writing_of_numbers_do_not_count(tmp_path):
    assert moved(backwards(small())) == set()
    assert moved(whole_numbers_as_floats(small())) == set()
    path = tmp_path / "config.yaml"
    path.write_text("# why\n" + SMALL.read_text().replace("\n", "  # so\n"))
    assert table(make_plan(read_config(path))) == keys(small())


def test_one_number_written_two_ways_is_one_key():
    for objective in ({"kd": {"temperature": 8}}, {"kd": {"temperature": 8.0}}):
        assert keys(edited("students.kd.objective", objective)) == keys(
            edited("students.kd.objective", {"kd": {"temperature": "16/2"}})
        )
    default = {"rslad": {"steps": 2, "eps": "8/255", "step": 2 / 255, "alpha": "5/6"}}
    assert moved(edited("students.rslad.objective", default)) == set()


def test_the_report_follows_everything_and_the_order_of_names():
    raw = edited("report", {})
    key = keys(raw)["report/report"]
    assert keys(edited("run.data", "elsewhere", raw))["report/report"] == key
    assert keys(edited("students.kd.epochs", 2, raw))["report/report"] != key
    assert keys(edited("report.title", "Another", raw))["report/report"] != key
    assert keys(backwards(raw))["report/report"] != key


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("run.data", "elsewhere"),
        ("run.checkpoint_seconds", 5),
        ("run.shards_per_job", 2),
        ("run.logging", ["tensorboard"]),
        ("store", "elsewhere"),
    ],
)
def test_how_jobs_run_is_in_no_key(path, value):
    assert moved(edited(path, value)) == set()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("students.rslad.objective.rslad.eps", "4/255", ["rslad"]),
        ("students.kd.model", "resnet8-s2-w4", ["kd-0"]),
        ("students.kd.epochs", 2, ["kd-0"]),
        ("teachers.robust.objective.pgd_at.steps", 3, ["robust", "rslad", "adaad"]),
        ("discretizers.vq.n_codes", 32, ["vq", "dad"]),
        ("banks.dad.shards", 1, ["dad"]),
        ("banks.dad.attack", {"eps": 0.2}, ["dad"]),
        ("suites.shift.attacks", [{"corruptions": {"chunk": 7}}], [".shift"]),
        ("datasets.tiny.train", 256, [""]),
        ("seed", 1, ["teacher/", "discretizer/", "bank/", "evaluation/", "student/"]),
    ],
)
def test_an_edit_moves_its_artefact_and_all_downstream(path, value, words):
    raw = edited(path, value)
    if path == "seed":
        raw["students"] = {k: v | {"seeds": [0]} for k, v in raw["students"].items()}
    wanted = named(*words) - ({"student/natural-0"} if path == "seed" else set())
    assert moved(raw) == wanted
    assert wanted


def test_an_edit_there_and_back_gives_the_old_keys():
    path = "students.rslad.objective.rslad.eps"
    there = edited(path, "4/255")
    assert moved(there)
    assert moved(edited(path, "8/255", there)) == set()


def test_seeds_are_artefacts_and_equal_content_is_one():
    raw = edited("students.kd.seeds", [0, 1, 2])
    raw["students"]["twin"] = copy.deepcopy(small()["students"]["kd"])
    found = keys(raw)
    assert len({found[f"student/kd-{seed}"] for seed in range(3)}) == 3
    assert found["student/kd-0"] == found["student/twin-0"] == keys(small())["student/kd-0"]


def test_inputs_come_before_what_is_made_from_them():
    plan, seen = make_plan_from_dict(small()), set()
    for ref, entry in plan.artefacts.items():
        assert all(e.ref in seen for e in entry.inputs.values())
        seen.add(ref)
    assert {Path(target).parts[1] for target in plan.list_targets()} == {"evaluation"}
    bank = plan.refs_by_name["bank", "dad"]
    assert plan.list_shard_groups(bank) == ["0-1", "1-2"]


class Later(Recipe):
    """A recipe as a later release may have it."""

    novelty: int = make_neutral_field(0)


class Holder(Section):
    """A section that holds one."""

    recipe: Later = Later()


def test_a_new_field_stays_out_of_the_key_while_it_is_neutral():
    assert dump_section(Later()) == dump_section(Recipe())
    assert dump_section(Later(novelty=1)) == {**dump_section(Recipe()), "novelty": 1}
    assert dump_section(Holder()) == {"recipe": dump_section(Recipe())}
    assert dump_section(Holder(recipe=Later(novelty=1)))["recipe"]["novelty"] == 1
    section = StudentSettings(dataset="tiny", model="m", objective="natural")
    assert "bank" not in dump_section(section, without=("bank",))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pipeline.objectives.rslad", ["rslad"]),
        ("pipeline.attacks.corruptions", [".shift"]),
        ("pipeline.models.vqgan", ["vq", "/dad"]),
        ("pipeline.banks.shards", ["/dad"]),
        ("pipeline.nothing", ["no such name"]),
    ],
)
def test_a_revision_moves_what_its_module_makes(module, words, monkeypatch):
    before, revision_of = keys(small()), code_revisions.read_revision
    raised = {module: 99}
    monkeypatch.setattr(code_revisions, "read_revision", lambda m: raised.get(m) or revision_of(m))
    after = keys(small())
    found = {name for name in before if before[name] != after[name]}
    monkeypatch.undo()
    assert named(*words) <= found
    unrelated = {"student/kd-0", "student/natural-0", "teacher/natural"}
    if module != "pipeline.banks.shards":
        assert not found & unrelated


def test_work_orders_are_written_once_and_names_point_at_them(tmp_path):
    raw = edited("store", str(tmp_path / "store"))
    plan = make_plan_from_dict(raw)
    write_job_files(plan)
    ref = plan.refs_by_name["student", "rslad-0"]
    job = read_job(plan.folder_path(ref))
    entry = plan.artefacts[ref]
    assert (job.kind, job.name, job.key, job.spec) == ("student", "rslad-0", entry.key, entry.spec)
    assert {role: p.parent.name for role, p in job.inputs.items()} == {
        "dataset": "dataset",
        "teachers.teacher": "teacher",
    }
    assert plan.describe_job(ref)["inputs"]["dataset"] == plan.refs_by_name["dataset", "tiny"]
    link = tmp_path / "store" / "by-name" / "student" / "rslad-0"
    assert link.resolve() == plan.folder_path(ref).resolve()

    order = plan.folder_path(ref) / "spec.json"
    order.write_text("{}")
    write_job_files(plan)
    assert order.read_text() == "{}"

    other = make_plan_from_dict(edited("students.rslad.objective.rslad.eps", "4/255", raw))
    write_job_files(other)
    assert link.resolve() == other.folder_path(other.refs_by_name["student", "rslad-0"]).resolve()


if __name__ == "__main__":
    KEYS.write_text(json.dumps(table(make_plan(read_config(TINY))), indent=1) + "\n")
