"""The models that the papers' figures show: named in the configuration, or all of them."""

import numpy as np
import pytest

from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report.outcomes import Study, open_study
from pipeline.report.paper_figures import canvas, grad_cam
from pipeline.report.paper_figures.canvas import Canvas
from tests.helpers.graph import tiny
from tests.report.test_paper_figures import WANTED, figure_store

KINDS = ("student", "teacher")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return open_study(figure_store(tmp_path_factory.mktemp("store")).job())


def test_named_models_alone_are_shown(study, tmp_path, monkeypatch):
    def shown(*names):
        one = Canvas(
            tmp_path, "darwin.4", study, WANTED.model_copy(update={"figure_models": names})
        )
        return {
            (g.name, len(g.members)) for k in KINDS for g in canvas.list_shown_groups(one, k)
        }, one

    assert shown()[0] == {("near", 1), ("far", 1), ("derd", 2), ("robust", 1)}
    assert shown("student/derd-1", "teacher/robust")[0] == {("derd", 1), ("robust", 1)}
    (tmp_path / "figures").mkdir()
    key = study.get_artefacts("dataset")["tiny"].manifest.key
    monkeypatch.setattr(grad_cam, "MOST_COLUMNS", 1)
    monkeypatch.setattr(grad_cam, "compute_heat_maps", lambda net, x, y: np.zeros((len(y), 32, 32)))
    cut = grad_cam.draw_attention(shown()[1])
    assert cut.endswith("left out, and models after the first 1.")
    _, one = shown("student/far-0", "student/derd-0", "teacher/robust")
    assert [g.name for g in grad_cam.collect_columns(one, key)] == [
        "robust", "far", "derd"
    ]  # fmt: skip
    assert grad_cam.draw_attention(one).endswith("without a feature map are left out.")
    assert "n = " in grad_cam.draw_attention(shown("teacher/robust")[1])


def test_the_plan_names_the_figures_models():
    raw = tiny()
    raw["report"]["figures"] = ["darwin.3a"]

    def planned(**more):
        plan = make_plan_from_dict(raw | {"report": raw["report"] | more})
        return plan.artefacts[plan.refs_by_name["report", "report"]]

    assert planned().key == planned(figure_models=[]).key
    assert "figure_models" not in planned().spec
    assert planned(figure_models=["*ad", "robust", "!rslad"]).spec["figure_models"] == [
        "student/dad-0", "student/adaad-0", "teacher/robust"
    ]  # fmt: skip
    with pytest.raises(RetortError, match=r"report\.figure_models\.0: no model .*'adaad'"):
        planned(figure_models=["adaat"])
    with pytest.raises(RetortError, match=r"figure_models: is for adaad\.3, .*drop the models"):
        planned(figures=["dad.3"], figure_models=["adaad"])
