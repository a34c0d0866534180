"""What the benchmarks time does the work that its table says, tried at the least size."""

from pathlib import Path

import torch
from torch import nn

from benchmarks import attacks, training_steps
from benchmarks.textbook import darwin, pgd_at
from benchmarks.timing import Settings
from pipeline.config.recipe import Recipe
from pipeline.core.devices import placement
from pipeline.core.losses import cross_entropy
from pipeline.training import divergence, loop
from pipeline.training.divergence import DivergenceWatch


def test_every_method_and_its_textbook_step_are_timed(tmp_path):
    workload = training_steps.make_workload("resnet8-s2-w4", "resnet8-s2-w4", 4)
    methods = tuple(training_steps.TEACHERS)
    seconds = training_steps.measure(workload, 1, methods, tmp_path)
    for method in methods:
        for form in ("none", "both", "textbook"):
            assert seconds[f"{method}, {form}"][0] > 0
    floor = {"forward of the student": [2.0], "forward of the teacher": [3.0]}
    assert training_steps.compute_floor("adaad", floor) == [24 * 2.0 + 21 * 3.0]


def test_steps_that_are_slower_than_the_textbooks_are_profiled(tmp_path):
    workload = training_steps.make_workload("resnet8-s2-w4", "resnet8-s2-w4", 4)
    data = {"rslad": {"textbook": {"median": 0.98}}, "adaad": {"textbook": {"median": 1.03}}}
    text = training_steps.format_slower_steps(workload, data, tmp_path)
    assert "rslad, ours:" in text and "rslad, textbook:" in text and "adaad" not in text
    assert text.count("`aten::convolution_backward`") == 2


def test_the_steps_that_are_timed_are_of_the_middle_of_a_training(tmp_path, monkeypatch):
    def refuse(parameters):
        raise AssertionError("the norms of the first batches are measured")

    looks, look = [], DivergenceWatch.check
    monkeypatch.setattr(loop, "measure_gradient", refuse)
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)
    monkeypatch.setattr(divergence, "CHECK_STEPS", 2)
    monkeypatch.setattr(
        DivergenceWatch, "check", lambda w, *given: looks.append(len(w.unread)) or look(w, *given)
    )
    workload = training_steps.make_workload("resnet8-s2-w4", "resnet8-s2-w4", 4)
    step = training_steps.prepare_own_step(workload, "pgd_at", tmp_path, Recipe(batch=4))
    for _ in range(5):
        step()
    assert looks == [2, 2]


def test_all_libraries_attack_within_the_same_ball():
    works, x, _ = attacks.build_works(Settings(True, 1, Path()))
    assert {"Retort", "foolbox", "ART"} <= works.keys()
    assert len(x) == 4


def test_a_textbook_attack_raises_the_loss_as_ours_does():
    workload = training_steps.make_workload("resnet8-s2-w4", "resnet8-s2-w4", 8)
    model = workload.build(workload.student, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pgd_at.step(model, optimizer, workload.x, workload.y)
    changed = [n for n, v in model.state_dict().items() if not torch.equal(v, before[n])]
    assert {n for n, _ in model.named_parameters()} <= set(changed)


def test_darwins_second_branch_shares_all_but_batchnorm():
    workload = training_steps.make_workload("resnet8-s2-w4", "resnet8-s2-w4", 4)
    student = workload.build(workload.student, 0)
    second = darwin.add_second_branch(student)
    for name, parameter in student.named_parameters():
        owner = student.get_submodule(name.rpartition(".")[0])
        is_own = isinstance(owner, nn.BatchNorm2d)
        assert (second.get_parameter(name) is parameter) != is_own
    assert len(darwin.list_parameters(student, second)) < 2 * len(list(student.parameters()))
    assert cross_entropy(second(workload.x), workload.y).isfinite().all()
