"""examples/own-method: checked, planned, trained for one step, and its faults told in one line."""

import argparse
import copy
import shutil
from pathlib import Path

import pytest
import yaml

import pipeline
from pipeline.cli import cost_report
from pipeline.cli.main import main
from pipeline.config.reader import parse_config
from pipeline.discovery import use_plugin_folders
from pipeline.planning.graph import make_plan, make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.store.artefact import STAGES_BY_KIND
from tests.helpers.graph import DATA, ROOT
from tests.helpers.own import write

EXAMPLE = ROOT / "examples" / "own-method"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The example's folder, copied; this process stands in it."""
    shutil.copytree(EXAMPLE, tmp_path / "example")
    monkeypatch.chdir(tmp_path / "example")
    yield yaml.safe_load(Path("config.yaml").read_text())
    use_plugin_folders(())


EDITS = {  # of the objective, with what is told of each
    ("weight * kd_loss(student(x_adv), target)", "kd_loss(student(x_adv), target).mean()"): (
        "sure_teacher.py: term 'kd_adv': shape (), (16,) is expected, one value a sample"
    ),
    ("weight * kd_loss", "float('nan') * kd_loss"): (
        "sure_teacher.py: term 'kd_adv' is not finite at epoch 1, step 0; its batch is in "
    ),
    ("yield {", "yield [], {"): "sure_teacher.py: a dict of terms is expected, not a tuple",
    ("weight = target", "weight = targets"): "sure_teacher.py:29: NameError: name 'targets'",
}


def smallest(raw: dict) -> dict:
    """The example on 16 images: one step of training, one of each attack."""
    raw = copy.deepcopy(raw) | {"run": {"data": str(DATA)}, "store": "store"}
    raw["recipes"]["short"] |= {"epochs": 1, "batch": 16}
    raw["datasets"]["cifar"] |= {"train": 16, "val": 0, "test": 4}
    raw["teachers"]["robust"] |= {"model": "resnet8-s2-w4", "objective": "natural"}
    raw["students"] = {
        "mine": raw["students"]["mine"] | {"objective": {"sure_teacher": {"steps": 1}}}
    }
    raw["suites"]["main"] = {"attacks": ["clean", {"momentum": {"steps": 2}}], "models": "students"}
    return {k: v for k, v in raw.items() if k != "report"}


def run(plan: Plan, *kinds: str) -> list[int]:
    """The exit status of every job of these kinds, each as in its own process."""
    write_job_files(plan)
    found = []
    for ref, entry in plan.artefacts.items():
        if entry.kind in kinds:
            use_plugin_folders(())
            found.append(main([STAGES_BY_KIND[entry.kind], str(plan.folder_path(ref))]))
    return found


def test_it_passes_its_check(example, capsys):
    assert main(["check", "my_methods"]) == 0
    assert capsys.readouterr().out.count(": ok\n") == 3


def test_it_is_planned_and_short(example):
    plan = make_plan_from_dict(example)
    mine = plan.artefacts[plan.refs_by_name["student", "mine-0"]]
    assert {m.rpartition(".")[2] for m in mine.own_code} == {"sure_teacher", "threeconv"}
    assert len((EXAMPLE / "README.md").read_text().splitlines()) <= 30


def test_it_trains_and_is_attacked_from_its_job_files_alone(example):
    plan = make_plan_from_dict(smallest(example))
    assert run(plan, "dataset", "teacher", "student", "evaluation") == [0] * 4
    use_plugin_folders(())
    model = pipeline.load(plan.folder_path(plan.refs_by_name["student", "mine-0"]))
    assert type(model.network).__module__ == "retort_plugins.architectures.threeconv"


def test_what_goes_wrong_in_training_or_attack_is_one_line(example, capsys):
    raw = smallest(example)
    assert run(make_plan_from_dict(raw), "dataset", "teacher", "student") == [0] * 3
    objective, attack = (
        Path("my_methods/objectives/sure_teacher.py"),
        Path("my_methods/attacks/momentum.py"),
    )
    text, own = objective.read_text(), attack.read_text()
    for (old, new), words in EDITS.items():
        assert old in text
        objective.write_text(text.replace(old, new))
        tell(run(make_plan_from_dict(raw), "student"), capsys, words)
    objective.write_text(text)
    attack.write_text(
        own.replace("return z.clamp(x - self.eps, x + self.eps).clamp(0, 1)", "return 9 * z")
    )
    tell(run(make_plan_from_dict(raw), "evaluation"), capsys, "momentum.py: attacked images lie in")


def tell(statuses: list[int], capsys, words: str) -> None:
    """Every job ended with status 2, and its last line is the fault."""
    assert statuses == [2]
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: my_methods/")
    assert words in last


def test_a_fault_leaves_its_traceback_in_the_log_alone(example, capsys):
    raw = smallest(example)
    path = Path("my_methods/architectures/threeconv.py")
    plan = make_plan_from_dict(raw)
    run(plan, "dataset", "teacher")
    path.write_text(path.read_text().replace("return self.body(x)", "return self.torso(x)"))
    raw["students"]["mine"]["model"] = "threeconv"
    plan = make_plan_from_dict(raw)
    capsys.readouterr()
    tell(run(plan, "student"), capsys, "threeconv.py:17: AttributeError: 'Network' object has no")
    folder = plan.folder_path(plan.refs_by_name["student", "mine-0"])
    assert "Traceback" in (folder / "attempts" / "run.log").read_text()


def test_cost_names_what_it_cannot_count(example, capsys):
    write(Path("my_methods"), "objectives/odd.py", ODD)
    raw = smallest(example)
    raw["students"]["mine"]["objective"] = "odd"
    config = parse_config(raw)
    plan = make_plan(config)
    lines = [cost_report.make_line(config, plan, ref) for ref in plan.artefacts]
    told = cost_report.format_uncounted(lines)
    assert told == (
        "Not counted: attack 'momentum', objective 'odd' (AttributeError: 'RecordedNetwork' object "
        "has no attribute 'network'). FLOP and hours leave them out.\n"
    )
    flop = {line.kind: line.artefact_cost.flop for line in lines}
    assert flop["student"] == 0 < flop["evaluation"]  # of the clean images
    Path("config.yaml").write_text(yaml.safe_dump(raw))
    cost_report.run_verb(argparse.Namespace(configfile=[Path("config.yaml")], gflops=1.0))
    assert told in capsys.readouterr().out


ODD = """
from dataclasses import dataclass
from pipeline.core.losses import cross_entropy


@dataclass(frozen=True)
class Objective:
    def needs(self):
        return ("label",)

    def __call__(self, roles, batch):
        first = roles.student.network.body[0](batch.x)
        yield {"odd": cross_entropy(roles.student(batch.x), batch.labels) + first.mean((1, 2, 3))}
"""
