"""The verb ``predict``: classes of image files, with probabilities."""

import argparse
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from pipeline.cli.show_artefact import find_ref
from pipeline.config.reader import read_config
from pipeline.export.finished_model import FinishedModel, open_finished_model
from pipeline.export.image_files import check_image_files, list_image_files, read_image_files
from pipeline.planning.graph import make_plan
from pipeline.upkeep.listing import format_table

CHUNK = 64  # images at once
SHOWN_CLASSES = 3  # of each image, the likeliest first


def run_verb(options: argparse.Namespace) -> None:
    """Print a line for each image."""
    plan = make_plan(read_config(*options.configfile))
    model = open_finished_model(plan.folder_path(find_ref(plan, options.name)))
    paths = list_image_files(options.images)
    check_image_files(model, paths)
    found = list(predict_probabilities(model, paths))
    formatted = format_csv if options.csv else format_lines
    print(formatted(model.classes, paths, found))


def predict_probabilities(model: FinishedModel, paths: Sequence[Path]) -> Iterator[list[float]]:
    """The probability of each class, for each image."""
    for start in range(0, len(paths), CHUNK):
        with torch.no_grad():
            logits = model.module(read_image_files(model, paths[start : start + CHUNK]))
        yield from logits.softmax(1).tolist()


def format_lines(classes: Sequence[str], paths: Sequence[Path], found: list[list[float]]) -> str:
    """Each image with its likeliest classes."""
    rows = []
    for path, probabilities in zip(paths, found, strict=True):
        best = sorted(range(len(classes)), key=lambda k: -probabilities[k])[:SHOWN_CLASSES]
        rows.append((str(path), *(f"{classes[k]} {probabilities[k]:.3f}" for k in best)))
    return format_table(rows)


def format_csv(classes: Sequence[str], paths: Sequence[Path], found: list[list[float]]) -> str:
    """A row for each image: file, prediction, and the probability of each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "prediction", *classes))
    for path, probabilities in zip(paths, found, strict=True):
        best = max(range(len(classes)), key=probabilities.__getitem__)
        writer.writerow((path, classes[best], *(f"{p:.6f}" for p in probabilities)))
    return text.getvalue().rstrip("\n")
