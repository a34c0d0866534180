"""Distances between distributions of images, and the report's study of them."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.suites import WassersteinSettings
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report import distance_study
from pipeline.report.outcomes import open_study
from pipeline.report.wasserstein import (
    BatchNormStatistics,
    collect_batchnorm_statistics,
    wasserstein_distance,
)
from pipeline.store.artefact import read_job
from tests.helpers.graph import tiny
from tests.helpers.points import corrupted


def pair(mean: list[float], std: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(mean).double(), torch.tensor(std).double()


def test_the_distance_by_hand():
    """Layer 1: ((3-0)^2 + (1-1)^2 + 0 + (3-1)^2) / 2 = 6.5; layer 2: 16 + 9 = 25; root of 15.75."""
    one = BatchNormStatistics((pair([3, 0], [1, 3]), pair([4], [0])))
    two = BatchNormStatistics((pair([0, 0], [1, 1]), pair([0], [3])))
    assert wasserstein_distance(one, two) == pytest.approx(15.75**0.5)
    assert wasserstein_distance(one, two) == wasserstein_distance(two, one)
    assert wasserstein_distance(one, one) == 0


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = (nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
        return nn.Sequential(*layers).double().eval()


def test_batches_add_up_to_the_whole():
    net, x = network(), torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    found = collect_batchnorm_statistics(net, x.split(3))
    mean, std = found.layers[0]
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(std, x.var((0, 2, 3), unbiased=False).sqrt())
    inner = net[2](net[1](net[0](x)))
    torch.testing.assert_close(found.layers[1][0], inner.mean((0, 2, 3)))
    assert wasserstein_distance(found, collect_batchnorm_statistics(net, [x])) == pytest.approx(
        0, abs=1e-9
    )
    assert wasserstein_distance(found, collect_batchnorm_statistics(net, [(x + 0.5)])) > 0.1


def test_a_network_without_batchnorm_is_refused():
    with pytest.raises(RetortError, match="has no BatchNorm"):
        collect_batchnorm_statistics(nn.Conv2d(3, 1, 1).eval(), [torch.rand(2, 3, 4, 4)])


def test_a_study_has_a_point_for_each_student_and_corruption(made, tmp_path):
    study = open_study(read_job(made.path / "store/by-name/report/report"))
    about = WassersteinSettings(network="natural", images=32)
    spots = distance_study.measure_distances(study, about)
    tested = {s.group.name for s in spots}
    assert tested == {"natural", "kd", "dad", "rslad", "adaad"}  # derd has no training images
    assert len(spots) == 5 * 5
    by = {(s.group.name, s.shift.corruption): s for s in spots}
    for shift in {s.shift.corruption for s in spots}:
        assert by["natural", shift].relative_distance == pytest.approx(1)
        assert by["natural", shift].distance == by["kd", shift].distance  # kd reads no samples
        assert by["dad", shift].distance != by["natural", shift].distance
    accuracy = (
        study.evaluated_groups[0].average_by_member([corrupted("fog", variant="cifar")])[0].accuracy
    )
    assert by[study.evaluated_groups[0].name, "fog"].accuracy == accuracy
    distance_study.draw_scatter(tmp_path / "d.png", study, spots)
    assert (tmp_path / "d.png").stat().st_size > 5000
    text = distance_study.format_section(spots, about)
    ranks = [
        np.argsort(np.argsort([getattr(s, n) for s in spots])) for n in ("distance", "accuracy")
    ]
    said = float(re.search(r"points: (-?\d\.\d+) \(p", text)[1])
    assert abs(said - np.corrcoef(*ranks)[0, 1]) < 0.35  # ties are averaged there, not here
    assert -1 <= said <= 1


def test_the_study_names_a_network_that_exists():
    raw = tiny()
    raw["report"]["wasserstein"] = {"network": "natrual"}
    with pytest.raises(RetortError, match="natrual.*did you mean 'natural'"):
        make_plan_from_dict(raw)
    raw["report"]["wasserstein"] = {"network": "natural"}
    report = make_plan_from_dict(raw).artefacts[
        make_plan_from_dict(raw).refs_by_name["report", "report"]
    ]
    assert report.spec["wasserstein"] == {"network": "natural", "images": 1000}
    assert "pipeline.report.distance_study" in report.code
    assert (
        "pipeline.report.distance_study"
        not in make_plan_from_dict(tiny())
        .artefacts[make_plan_from_dict(tiny()).refs_by_name["report", "report"]]
        .code
    )
