"""The device that the tests of this folder run on, and an experiment that needs no fetched data."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.discovery import is_installed
from pipeline.training.numeric_modes import CUBLAS_VARIABLE, CUBLAS_WORKSPACE

# `cuda`, or `cpu` to try the tests themselves where there is no GPU.
DEVICE = os.environ.get("RETORT_GPU_TESTS", "cuda")
TINY = Path(__file__).parents[1] / "helpers" / "tiny.yaml"
NEEDED = {  # what of the tiny experiment needs a package that a bare machine may lack
    "clip": ("open_clip",),
    "vq": ("taming",),
    "corruptions": ("imagecorruptions",),
    "fgsm": ("foolbox",),
    "pgd": ("foolbox",),
    "autoattack": ("pyautoattack",),
}

# CUDA's libraries read it when they start, before a test asks for equal bytes.
os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_WORKSPACE)

if DEVICE == "cpu":
    torch.set_num_threads(1)

needs_device = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="torch sees no GPU"
)


def is_possible(name: str) -> bool:
    """Whether the packages that something needs are installed."""
    return all(is_installed(package) for package in NEEDED.get(name, ()))


def write_images(path: Path, count: int) -> None:
    """A file of images around a mean of each class, for the data set `npz`."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 10
    means = rng.integers(60, 196, (10, 3, 1, 1))
    images = (means[labels] + rng.normal(0, 30, (count, 3, 32, 32))).clip(0, 255)
    np.savez(path, image=images.astype(np.uint8), label=labels)


def make_experiment(folder: Path, device: str = DEVICE) -> dict:
    """The tiny experiment on the device; what lacks its package is left out."""
    write_images(folder / "images.npz", 256)
    raw = yaml.safe_load(TINY.read_text())
    raw |= {"store": str(folder / "store"), "device": device}
    raw["run"]["data"] = str(folder)
    source = {"npz": {"path": str(folder / "images.npz"), "test": 64}}
    raw["datasets"]["tiny"] = {"source": source, "train": 128, "val": 64, "test": 64}
    if not (is_possible("clip") and is_possible("vq")):
        for section, name in (("teachers", "clip"), ("discretizers", "vq"), ("banks", "dad")):
            del raw[section][name]
        for name in ("kd", "dad"):
            del raw["students"][name]
    attacks = raw["suites"]["main"]["attacks"]
    names = {id(a): a if isinstance(a, str) else next(iter(a)) for a in attacks}
    raw["suites"]["main"]["attacks"] = [a for a in attacks if is_possible(names[id(a)])]
    return raw
