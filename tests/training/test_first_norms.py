"""The gradient norm of the first batches, which is logged once."""

import logging
from types import SimpleNamespace

import torch
from torch import nn

from pipeline.training.epoch_log import log_first_norms, measure_gradient


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
