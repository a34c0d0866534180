"""The studies' configurations: what they compare, and what they share with the demo."""

import pytest

from pipeline.discovery import list_plugin_names
from pipeline.planning.compatibility.fits import list_objective_needs
from pipeline.planning.graph import make_plan_from_dict, make_plan_from_files
from tests.config.test_presets import elsewhere
from tests.helpers.graph import ROOT

SUPPLIED = {"x_adv", "discretizer", "generated"}  # needs that a bank, Q or a generator meets


def test_the_study_has_every_objective_at_one_of_its_tuned_points(tmp_path):
    paths = ("workflow/study.yaml", "workflow/study-tuning.yaml")
    study, tuning = (make_plan_from_dict(elsewhere(ROOT / path, tmp_path)) for path in paths)
    for name in ("natural", "robust"):
        assert study.refs_by_name["teacher", name] == tuning.refs_by_name["teacher", name]
    students, points = (
        [e for e in plan.artefacts.values() if e.kind == "student"] for plan in (study, tuning)
    )
    compared = {name for e in students for name in e.spec["objective"]}
    without = {
        n
        for n in list_plugin_names("objectives")
        if not SUPPLIED.isdisjoint(list_objective_needs({n: {}}))
    }
    assert compared == set(list_plugin_names("objectives")) - without
    assert len(students) == 3 * (len(compared) + 1)  # AdaAD stands there with IGDM, too
    tuned: dict[str, list] = {}
    for e in points:
        section = e.name.partition(".")[0]
        tuned.setdefault(section, []).append((e.spec["objective"], e.spec["recipe"]["lr"]))
    assert {len(found) for found in tuned.values()} == {4}
    for e in students:
        if "igdm" not in e.name:
            section = e.name.rpartition("-")[0]
            assert (e.spec["objective"], e.spec["recipe"]["lr"]) in tuned[section], section


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("dad-study", {"teacher/clip", "discretizer/vq", "bank/dad"}),
        ("dad-gain", {"teacher/clip", "discretizer/vq"}),
        ("which-bank", {"teacher/robust", "discretizer/vq"}),
        ("derd-goals-cifar10", {"teacher/natural", "teacher/robust"}),
        ("bf16-study", {"teacher/robust"}),
    ],
)
def test_a_study_shares_what_it_says_with_the_demo(tmp_path, name, shared):
    paths = (f"workflow/{name}.yaml", "config.yaml")
    study, demo = (make_plan_from_dict(elsewhere(ROOT / path, tmp_path)) for path in paths)
    for entry in shared:
        named = tuple(entry.split("/"))
        assert study.refs_by_name[named] == demo.refs_by_name[named], entry


def test_autoattack_on_all_seeds_of_igdm_is_read_on_top_of_the_study():
    paths = [ROOT / "workflow" / name for name in ("study.yaml", "study-igdm.yaml")]
    study, more = make_plan_from_files(paths[0]), make_plan_from_files(*paths)
    added = more.refs_by_name.keys() - study.refs_by_name.keys()
    names = {f"{student}-{seed}" for student in ("adaad", "adaad_igdm") for seed in (1, 2)}
    assert added == {("evaluation", f"{name}.strong") for name in names}
    assert study.refs_by_name.items() - more.refs_by_name.items() == {
        item for item in study.refs_by_name.items() if item[0][0] == "report"
    }
