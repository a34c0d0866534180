"""Every stage of the tiny experiment on the device, made in this process without Snakemake."""

import pytest

from pipeline.planning.graph import make_plan_from_dict
from pipeline.store.artefact import Artefact
from tests.gpu.device import DEVICE, is_possible, make_experiment, needs_device
from tests.helpers.making import made

pytestmark = [pytest.mark.gpu, needs_device]


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> dict[str, Artefact]:
    """The tiny experiment, made on the device."""
    return made(make_plan_from_dict(make_experiment(tmp_path_factory.mktemp("tiny"))))


def test_every_stage_runs_on_the_device(artefacts):
    on_device = [a.manifest for a in artefacts.values() if "device" in a.manifest.spec]
    assert {m.spec["device"] for m in on_device} == {DEVICE}
    kinds = {"teacher", "generator", "student", "evaluation"}
    if is_possible("clip") and is_possible("vq"):
        kinds |= {"discretizer", "bank"}
    assert {m.kind for m in on_device} == kinds
    assert artefacts["report/report"].get_verified_path("report.html").stat().st_size > 10_000


def test_accuracies_are_those_of_networks_that_work(artefacts):
    found = artefacts["evaluation/natural-0.main"].manifest.facts["accuracy"]
    (clean,) = (record["accuracy"] for record in found if record["attack"] == "clean")
    assert 0 < clean <= 1
