"""The user's own plug-ins: found, counted by content, refused where they changed or clash."""

import json
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.cli.main import main
from pipeline.discovery import list_plugin_names, load_plugin, use_plugin_folders
from pipeline.errors import RetortError
from pipeline.models.classifier import initialise_classifier, save_classifier
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.store.artefact import MANIFEST_FILE, read_job, write_manifest
from pipeline.upkeep.code_drift import use_job_plugins
from tests.helpers.own import SMALLEST, mine, write
from tests.planning.test_plan import keys, small

__all__ = ["mine"]

OBJECTIVE = SMALLEST["objectives"]
SHARED = OBJECTIVE.replace("@dataclass", "from ..shared import SCALE\n\n\n@dataclass").replace(
    "self.weight *", "SCALE *"
)


def using(**more) -> dict:
    """The small configuration; the student kd uses an objective, an architecture and an attack."""
    raw = {**small(), "plugins": "my_methods/", **more}
    raw["students"]["kd"] |= {"objective": "tiny_objective", "model": "tiny_architecture"}
    raw["suites"]["linf"]["attacks"] = ["clean", "tiny_attack"]
    raw["suites"]["linf"]["models"] = "students"
    return raw


def moved(before: dict[str, str]) -> set[str]:
    """Names whose key is another one than before."""
    after = keys(using())
    assert after.keys() == before.keys()
    return {name for name in after if after[name] != before[name]}


KD = {"student/kd-0", *(f"evaluation/kd-0.{s}" for s in ("linf", "autoattack", "shift"))}
KD |= {"report/report"} if "report" in small() else set()


def test_an_edit_moves_exactly_what_the_file_makes(mine):
    before = keys(using())
    path = mine / "objectives/tiny_objective.py"
    text = path.read_text()
    path.write_text(text.replace("Objective: cross", "A doc: cross") + "\n# a comment\n")
    assert moved(before) == set()
    path.write_text(text.replace("0.5", "0.6"))
    assert moved(before) == KD
    path.write_text(text.replace("square()", "abs() "))  # the default is what it was
    assert moved(before) == KD
    path.write_text(text)
    attack = mine / "attacks/tiny_attack.py"
    attack.write_text(attack.read_text().replace("sign()", "tanh()"))
    students = {f"evaluation/{s}-0.linf" for s in ("natural", "kd", "rslad", "adaad", "dad")}
    assert moved(before) == students | (KD & {"report/report"})


def test_what_a_file_imports_beside_it_counts_too(mine):
    write(mine, "shared.py", "SCALE = 2.0\n")
    write(mine, "objectives/tiny_objective.py", SHARED)
    before = keys(using())
    write(mine, "unused.py", "SCALE = 2.0\n")
    assert moved(before) == set()
    write(mine, "shared.py", "SCALE = 3.0\n")
    assert moved(before) == KD
    write(mine, "shared.py", "from .deeper.numbers import SCALE\n")
    write(mine, "deeper/__init__.py", "FACTOR = 1\n")
    write(mine, "deeper/numbers.py", "from . import FACTOR\n\nSCALE = FACTOR\n")
    before = keys(using())
    write(mine, "deeper/__init__.py", "FACTOR = 2\n")
    assert moved(before) == KD
    assert load_plugin("objectives", "tiny_objective").SCALE == 2


def test_our_code_that_a_file_imports_counts_by_revision(mine):
    plan = make_plan_from_dict(using())
    code = plan.artefacts[plan.refs_by_name["evaluation", "kd-0.linf"]].code
    assert isinstance(code["retort_plugins.attacks.tiny_attack"], str)
    student = plan.artefacts[plan.refs_by_name["student", "kd-0"]].code
    assert {"pipeline.core.losses", "pipeline.core.batch"} <= student.keys()


def test_keys_of_others_stay_where_the_folder_is_named(mine):
    assert keys({**small(), "plugins": ["my_methods/"]}) == keys(small())
    assert "tiny_objective" not in list_plugin_names("objectives")


def test_the_folders_place_is_in_no_key(mine, tmp_path):
    before = keys(using())
    (tmp_path / "elsewhere").mkdir()
    mine.rename(tmp_path / "elsewhere" / "mine")
    assert keys(using(plugins=str(tmp_path / "elsewhere" / "mine"))) == before


CLASHES = {
    "a name": ("objectives/kd.py", "objectives/kd.py: 'kd' is one of ours already"),
    "a pattern": (
        "architectures/resnet8-s2-w16.py",
        "resnet8-s2-w16.py: 'resnet8-s2-w16' fits our pattern .* of .*resnet_small",
    ),
    "a typo": ("objective/kd2.py", "my_methods/objective: is unknown; did you mean 'objectives/'"),
    "a dot": ("objectives/kd.v2.py", "kd.v2.py: a name has letters, digits, '_' and '-' alone"),
}


@pytest.mark.parametrize("case", CLASHES)
def test_a_name_that_is_taken_or_never_found_is_refused(case, mine):
    path, words = CLASHES[case]
    write(mine, path, OBJECTIVE)
    with pytest.raises(RetortError, match=words):
        make_plan_from_dict(using())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            "nowhere",
            "plugins: nowhere: there is no such folder; name one that holds architectures/",
        ),
        ("empty", "plugins: empty: holds none of architectures/, attacks/"),
        (3, "plugins: expected a folder, or a list of folders"),
        (["my_methods", "other"], "other/attacks/tiny_attack.py and .* have the same name"),
    ],
)
def test_folders_that_are_refused(value, words, mine, tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path, "other/attacks/tiny_attack.py", "")
    with pytest.raises(RetortError, match=words):
        make_plan_from_dict(using(plugins=value))


def test_a_model_that_two_patterns_fit_is_refused(mine):
    text = SMALLEST["architectures"]
    write(
        mine, "architectures/wide.py", f'import re\n\nNAME_PATTERN = re.compile("wrn-.*")\n{text}'
    )
    raw = using()
    raw["students"]["kd"]["model"] = "wrn-10-1"
    names = "pipeline.architectures.wide_resnet and retort_plugins.architectures.wide"
    with pytest.raises(RetortError, match=f"model 'wrn-10-1' fits the names of {names}"):
        make_plan_from_dict(raw)
    raw["students"]["kd"]["model"] = "wrn-x"
    make_plan_from_dict(raw)


def test_an_import_that_keys_do_not_see_is_refused(mine, monkeypatch):
    monkeypatch.syspath_prepend(str(mine))
    write(mine, "shared.py", "SCALE = 2.0\n")
    write(mine, "objectives/tiny_objective.py", SHARED.replace("..shared", "shared"))
    with pytest.raises(RetortError, match=r"shared.py: is imported as 'shared', which keys do not"):
        make_plan_from_dict(using())
    del sys.modules["shared"]


@pytest.mark.parametrize("text", ["def f(:\n", "a = 1\0\n"])
def test_a_helper_that_is_imported_late_is_read_by_the_plan(text, mine):
    write(mine, "shared.py", text)
    late = OBJECTIVE.replace("        yield", "        from ..shared import SCALE\n        yield")
    write(mine, "objectives/tiny_objective.py", late)
    with pytest.raises(RetortError, match="my_methods/shared.py:1: SyntaxError: "):
        make_plan_from_dict(using())


def test_a_job_file_says_where_plug_ins_lie_and_what_they_hold(mine):
    plan = make_plan_from_dict(using(store="store"))
    write_job_files(plan)

    def told(kind: str, name: str) -> dict | None:
        path = plan.folder_path(plan.refs_by_name[kind, name]) / "spec.json"
        return json.loads(path.read_text())["run"].get("plugins")

    assert told("student", "kd-0")["folders"] == [str(mine)]
    assert told("student", "kd-0")["content"].keys() == {
        "retort_plugins.architectures.tiny_architecture",
        "retort_plugins.objectives.tiny_objective",
    }
    assert told("evaluation", "kd-0.linf")["content"].keys() == {
        "retort_plugins.architectures.tiny_architecture",
        "retort_plugins.attacks.tiny_attack",
    }
    assert told("evaluation", "kd-0.shift")["content"].keys() == {
        "retort_plugins.architectures.tiny_architecture"
    }
    assert told("dataset", "tiny") is None
    assert told("student", "natural-0") is None


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_a_job_refuses_a_file_that_changed_since_the_plan(change, mine, capsys):
    write(mine, "shared.py", "SCALE = 2.0\n")
    write(mine, "objectives/tiny_objective.py", SHARED)
    plan = make_plan_from_dict(using())
    write_job_files(plan)
    folder = plan.folder_path(plan.refs_by_name["student", "kd-0"])
    use_job_plugins(read_job(folder))
    if change == "edited":
        write(mine, "shared.py", "SCALE = 3.0\n")
        words = "my_methods/objectives/tiny_objective.py, or what it imports, has changed since"
    else:
        (mine / "objectives/tiny_objective.py").unlink()
        words = "objectives/tiny_objective.py: is in no folder of plugins; run 'retort run'"
    use_plugin_folders(())  # as in a job's own process
    assert main(["distill", str(folder)]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error


def test_a_finished_model_of_ones_own_is_loaded_anywhere(mine, tmp_path):
    plan = make_plan_from_dict(using())
    write_job_files(plan)
    job = read_job(plan.folder_path(plan.refs_by_name["student", "kd-0"]))
    model = initialise_classifier("tiny_architecture", 3, (0.5,) * 3, (0.2,) * 3, 0)
    save_classifier(model, job.folder / "model.safetensors", "tiny_architecture", "abc")
    write_manifest(job, job.build_manifest(["model.safetensors"], {}))
    use_plugin_folders(())
    assert pipeline.load(job.folder).network.linear.out_features == 3
    use_plugin_folders(())
    mine.rename(tmp_path / "moved")
    with pytest.raises(RetortError, match="plugins: my_methods: there is no such folder"):
        pipeline.load(job.folder)
    assert pipeline.load(job.folder, plugins="moved").network.linear.out_features == 3
    path = tmp_path / "moved/architectures/tiny_architecture.py"
    path.write_text(path.read_text().replace("relu()", "tanh()"))
    words = r"tiny_architecture.py, or what it imports, has changed .* load\(…, plugins=…\)"
    with pytest.raises(RetortError, match=words):
        pipeline.load(job.folder, plugins="moved")
    assert (job.folder / MANIFEST_FILE).exists()


@pytest.mark.parametrize("place", ["store/mine", "../mine", "{here}/store/student/mine"])
def test_no_code_is_run_out_of_a_store(place, mine, tmp_path):
    """A job file that came with a store from elsewhere may name a folder that came with it."""
    write(tmp_path, "store/student/mine/architectures/evil.py", "raise SystemExit(1)\n")
    plan = make_plan_from_dict(using())
    write_job_files(plan)
    path = plan.folder_path(plan.refs_by_name["student", "kd-0"]) / "spec.json"
    job = json.loads(path.read_text())
    job["run"]["plugins"]["folders"] = [place.format(here=tmp_path)]
    path.write_text(json.dumps(job))
    with pytest.raises(RetortError, match="lies in the store, and no code is run out of a store"):
        use_job_plugins(read_job(path.parent))


def test_code_is_run_as_it_was_read(mine):
    """No bytecode file of the same second and size stands for other text."""
    path = mine / "objectives/tiny_objective.py"
    for value in ("0.1", "0.2", "0.3"):
        path.write_text(OBJECTIVE.replace("= 0.5", f"= {value}"))
        use_plugin_folders([mine])
        assert load_plugin("objectives", "tiny_objective").Objective().weight == float(value)
    assert not list(Path(mine).rglob("__pycache__"))
