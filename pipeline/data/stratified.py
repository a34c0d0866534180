"""Rows of labelled images in an order of which every stretch holds each class in proportion."""

import torch
from torch import Tensor

from pipeline.core.seeding import make_generator

REVISION = 1


def draw_stratified_order(labels: Tensor) -> Tensor:
    """The rows (N,) of labels (N,) in a fixed random order, spread evenly class by class.

    The k-th of a class's n rows stands at (k + 1/2) / n of the whole, so that any run of rows holds
    each class in its share, within one row at either end.
    """
    drawn = torch.randperm(len(labels), generator=make_generator("stratified"))
    shuffled, place = labels[drawn], torch.empty(len(labels), dtype=torch.float64)
    for label in shuffled.unique():
        rows = (shuffled == label).nonzero().squeeze(1)
        place[rows] = (torch.arange(len(rows), dtype=torch.float64) + 0.5) / len(rows)
    return drawn[place.sort(stable=True).indices]
