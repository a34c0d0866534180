"""Pack CIFAR-10 for a machine without a network: `python -m benchmarks.gpu.pack images.npz`.

The test images come last. As many training images are taken as fit into the size; each array holds
the differences of neighbouring pixels, which the file's compression makes a third smaller.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from benchmarks.timing import ROOT
from pipeline.datasets import cifar10

TEST_IMAGES = 1000
BYTES_AN_IMAGE = 2420  # at most, as measured


def encode_differences(images: np.ndarray) -> np.ndarray:
    """Images (N,C,H,W) uint8 as differences along each row, modulo 256."""
    return np.diff(images, axis=3, prepend=np.zeros_like(images[..., :1]))


def decode_differences(differences: np.ndarray) -> np.ndarray:
    """The images of their differences."""
    return np.cumsum(differences, axis=3, dtype=np.uint8)


def pack(path: Path, megabytes: float, data: Path) -> int:
    """Write the file; returns its number of training images."""
    train, train_labels = cifar10.load("train", data)
    test, test_labels = cifar10.load("test", data)
    count = min(int(megabytes * 1e6 / BYTES_AN_IMAGE) - TEST_IMAGES, len(train))
    images = np.concatenate([train[:count], test[:TEST_IMAGES]])
    labels = np.concatenate([train_labels[:count], test_labels[:TEST_IMAGES]])
    np.savez_compressed(path, difference=encode_differences(images), label=labels.astype(np.uint8))
    return count


def unpack(path: Path, target: Path) -> int:
    """Write the file that the data set `npz` reads; returns its number of training images."""
    with np.load(path) as packed:
        images = decode_differences(packed["difference"])
        np.savez(target, image=images, label=packed["label"].astype(np.int64))
    return len(images) - TEST_IMAGES


def main() -> None:
    """Pack into the file that is named."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("file", type=Path)
    options.add_argument("--megabytes", type=float, default=58.0, help="the file's size, at most")
    given = options.parse_args()
    data = Path(os.environ.get("RETORT_DATA", ROOT / "data"))
    count = pack(given.file, given.megabytes, data)
    size = given.file.stat().st_size / 1e6
    print(f"{given.file}: {count} training and {TEST_IMAGES} test images, {size:.1f} MB")


if __name__ == "__main__":
    main()
