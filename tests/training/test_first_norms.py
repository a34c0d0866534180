"""The gradient norm of the first batches, which is logged once."""

import logging
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.training import loop
from pipeline.training.epoch_log import log_first_norms, measure_gradient
from tests.training.test_loop import run


def test_the_norm_is_over_all_parameters_by_hand():
    with_gradient, also, without = (nn.Parameter(torch.zeros(n)) for n in (2, 1, 3))
    with_gradient.grad, also.grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    assert measure_gradient([with_gradient, without, also]).item() == 13
    assert measure_gradient([without]).item() == 0


def test_it_is_logged_once(caplog):
    training = SimpleNamespace(first_norms=[torch.tensor(1.0), torch.tensor(2.0)])
    with caplog.at_level(logging.INFO, "retort"):
        log_first_norms(training)
        log_first_norms(training)
    assert [r.getMessage() for r in caplog.records] == [
        "gradient norm 1.5, mean of the first 2 batches"
    ]


def list_lines(caplog) -> list[str]:
    """The lines on the gradient norm since the last call."""
    lines = [r.getMessage() for r in caplog.records if "gradient norm" in r.getMessage()]
    caplog.clear()
    return lines


def test_a_training_says_it_before_clipping_and_a_resumed_one_too(tmp_path, caplog, monkeypatch):
    """Four batches an epoch; the cut comes after the second."""
    with caplog.at_level(logging.INFO, "retort"):
        run(tmp_path / "whole", lr=1e-12)
        (whole,) = list_lines(caplog)
        run(tmp_path / "clipped", lr=1e-12, clip_grad=1e-6)
        assert list_lines(caplog) == [whole]
        update, steps = loop.take_optimizer_step, []

        def stop_after_two(training, batch):
            update(training, batch)
            steps.append(batch)
            if len(steps) == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(loop, "take_optimizer_step", stop_after_two)
        with pytest.raises(SystemExit):
            run(tmp_path / "cut", lr=1e-12)
        assert list_lines(caplog) == []
        run(tmp_path / "cut", lr=1e-12)
    assert list_lines(caplog) == [whole]
    assert whole.endswith("mean of the first 4 batches")
    assert float(whole.split()[2].rstrip(",")) > 0.01
