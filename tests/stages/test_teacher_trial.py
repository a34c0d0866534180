"""Teachers near chance, or whose pixels are read wrongly: found, with what repairs them."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from pipeline.data.splits import Split
from pipeline.errors import RetortError
from pipeline.stages import teacher_trial
from pipeline.stages.teacher_trial import (
    Sample,
    Share,
    compare_readings,
    find_better_order,
    find_chance,
    measure_share,
    try_teacher,
)

CLASSES = ("cat", "dog", "fox", "hen")
MEAN, STD = (0.5,) * 3, (0.25,) * 3


@dataclass(frozen=True)
class Data:
    """A data set whose images have one grey level a class: 32, 96, 160, 224."""

    count: int = 1200
    val: int = 0
    classes: tuple[str, ...] = CLASSES
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    shape: tuple[int, int, int] = (3, 2, 2)

    def read_split(self, name: str) -> Split:
        count = {"train": self.count, "val": self.val, "test": 0}[name]
        labels = torch.arange(count) % len(CLASSES)
        images = (32 + 64 * labels).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        return Split(images, labels)


class Grey(nn.Module):
    """Classifies by grey level, after its own mean and std; it was trained with MEAN and STD."""

    def __init__(self, mean: float = 0.5, std: float = 0.25, order: tuple[int, ...] = (0, 1, 2, 3)):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), mean))
        self.register_buffer("std", torch.full((1, 3, 1, 1), std))
        self.order = nn.Parameter(torch.eye(4)[list(order)])

    def forward(self, x: Tensor) -> Tensor:
        z = ((x - self.mean) / self.std).mean((1, 2, 3))
        level = (z * 0.25 + 0.5) * 255  # grey levels as at training
        logits = -(level[:, None] - torch.tensor([32.0, 96.0, 160.0, 224.0])).abs()
        return logits @ self.order.T


class Constant(Grey):
    """Says the first class whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0, 0, 0]]).expand(len(x), 4) + 0 * self.order.sum()


def test_a_share_has_a_wilson_interval():
    low, high = Share(0, 100).interval
    assert (low, high) == (0.0, pytest.approx(0.0370, abs=1e-4))  # z² / (n + z²)
    assert Share(50, 100).interval == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert str(Share(50, 100)) == "50.0 % of 100 images (95 % interval 40.4 to 59.6 %)"


def test_chance_is_the_best_constant_answer():
    assert find_chance(torch.tensor([0, 0, 0, 1])) == 0.75
    assert find_chance(torch.arange(10)) == 0.1


def test_a_good_teacher_is_judged_on_few_images_and_one_near_chance_on_all():
    split = Data().read_split("train")
    sample = Sample(split.images[:1000], split.labels[:1000], "train")
    assert measure_share(Grey(), sample, 0.3) == Share(100, 100)
    assert measure_share(Constant(), sample, 0.3) == Share(250, 1000)


def test_a_teacher_near_chance_stops_the_job():
    with pytest.raises(RetortError) as error:
        try_teacher(Constant(), Data(), "robust.pt", may_be_wrong=False)
    line = str(error.value)
    assert line.startswith("robust.pt: right on 2")
    assert "of 1000 images (95 % interval 2" in line
    assert ", where chance is 25.0 %; neither another order of classes nor another normalis" in line
    assert line.endswith("or say 'unverified: true' beside its data set to use it as it is")


def test_unverified_and_own_teachers_only_warn(caplog):
    facts = try_teacher(Constant(), Data(), "robust.pt", may_be_wrong=True)
    assert facts["trial_images"] == 1000
    assert facts["trial_interval"][0] < facts["trial_accuracy"] < facts["trial_interval"][1]
    try_teacher(Constant(), Data(), "teacher own", may_be_wrong=False, stops=False)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert "teacher own: right on 2" in caplog.text


def test_a_permuted_order_of_classes_is_found():
    """Output 0 means fox, 1 cat, 2 hen, 3 dog."""
    with pytest.raises(
        RetortError, match="with its outputs in the order fox, cat, hen, dog it is"
    ) as error:
        try_teacher(Grey(order=(2, 0, 3, 1)), Data(), "x.pt", may_be_wrong=False)
    assert "right on 100.0 % of 250 images" in str(error.value)
    assert "save its head in the data set's order of classes" in str(error.value)


def test_a_forgotten_normalisation_is_found():
    with pytest.raises(RetortError) as error:
        try_teacher(Grey(-5.0, 1.0), Data(), "x.pt", may_be_wrong=False)
    assert (
        "with the data set's mean and std it is right on 100.0 % of 500 images (95 % interval 99.2 "
        "to 100.0 %): set 'mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]' beside its path"
    ) in str(error.value)


def test_an_order_fitted_to_noise_repairs_nothing():
    rng = torch.Generator().manual_seed(0)
    found, labels = (torch.randint(0, 100, (500,), generator=rng) for _ in range(2))
    assert find_better_order(found, labels, tuple(map(str, range(100))), 0.06) is None


@pytest.mark.parametrize(("val", "split"), [(500, "val"), (0, "train")])
def test_a_clearly_better_reading_is_a_warning_with_numbers(caplog, val, split):
    """Read without normalisation, the two middle classes are taken for the outer ones."""
    model = Grey(0.0, 1.0)
    found = compare_readings(model, Data(val=val))
    assert found["as configured"] < 0.6
    assert found["the data set's mean and std"] == 1.0
    assert model.mean.flatten().tolist() == [0.0] * 3
    assert len(caplog.records) == 1
    assert "of 500 images" in caplog.text and f"of the {split} split, but with the" in caplog.text
    assert "'mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]' beside its path" in caplog.text


def test_a_right_reading_is_no_warning(caplog):
    found = compare_readings(Grey(), Data(val=500))
    assert found["as configured"] == 1.0
    assert set(found) >= {"no normalisation", "pixels of 0 to 255", "pixels of -1 to 1"}
    assert caplog.text == ""


def test_a_data_set_without_images_is_said(caplog):
    caplog.set_level("INFO", "retort")
    assert try_teacher(Grey(), Data(count=0), "x.pt", may_be_wrong=False) == {}
    assert compare_readings(Grey(), Data(count=0)) == {}
    assert "x.pt: the data set has no images to try it on" in caplog.text


def test_rows_are_drawn_not_the_first():
    sample = teacher_trial.draw_sample(Data(), 8, "train")
    assert len(sample) == 8
    assert sample.labels.tolist() != [0, 1, 2, 3, 0, 1, 2, 3]
