"""DAD in ImageNet's layout, end to end: a small folder at 224 px under a real ViT-B/16 CLIP.

The CLIP has the published shape and random weights; the discretizer and the student are small. The
test checks that everything fits together at that size, not that anything is learnt.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import pipeline
from pipeline.data.dataset_artefact import open_dataset
from pipeline.models.loading import load_classifier
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.making import made
from tests.helpers.pictures import CLASSES


def photographs(root: Path, split: str, each: int) -> None:
    """Smooth images of a photograph's size and of two shapes, in class folders."""
    rng = np.random.default_rng(len(split))
    for name in CLASSES:
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(each):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
            size = (320, 240) if i % 2 else (240, 300)
            coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.JPEG", quality=90)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> dict:
    root = tmp_path_factory.mktemp("imagenet")
    photographs(root / "images", "train", 2)
    photographs(root / "images", "val", 1)
    source = {"path": str(root / "images"), "version": "made", "folders": list(CLASSES)}
    vq = {"epochs": 1, "batch": 2, "optimizer": "adamw", "lr": 0.001, "augment": "resized_crop"}
    dad = {"epochs": 2, "batch": 2, "optimizer": "adamw", "lr": 0.0001, "augment": "none"}
    clip = {"model": "ViT-B-16", "pretrained": "random", "templates": "simple", "names": "imagenet"}
    return {
        "store": str(root / "store"),
        "run": {"data": str(root)},
        "datasets": {"i": {"source": {"imagefolder": source}, "train": 4, "test": 2}},
        "teachers": {"clip": {"dataset": "i", "open_clip": clip}},
        "discretizers": {"vq": {"dataset": "i", "unshuffle": 8, "n_codes": 32, "recipe": vq}},
        "banks": {
            "dad": {
                "dataset": "i",
                "teacher": "clip",
                "discretizer": "vq",
                "reject": "keep",
                "shards": 2,
                "block": 2,
            }
        },
        "students": {
            "dad": {
                "dataset": "i",
                "bank": "dad",
                "model": "timm/vit_tiny_patch16_224",
                "objective": "dad",
                "recipe": dad,
            }
        },
        "suites": {"main": {"attacks": [{"clean": {"chunk": 1}}], "models": "students"}},
    }


def test_dad_runs_at_imagenet_s_size_from_folders_to_an_evaluation(experiment):
    plan = make_plan_from_dict(experiment)
    found = made(plan)
    assert set(found) == {
        *("dataset/i", "teacher/clip", "discretizer/vq", "bank/dad", "student/dad-0"),
        "evaluation/dad-0.main",
    }
    clip = load_classifier(found["teacher/clip"].get_verified_path("model.safetensors"))
    assert sum(p.numel() for p in clip.visual.parameters()) == 86_192_640  # ViT-B/16's image tower
    bank = found["bank/dad"].manifest
    assert bank.facts["rows"] == 4 and bank.spec["encoding"] == "png"
    history = found["student/dad-0"].manifest.facts["last"]
    assert all(np.isfinite(history[term]) and history[term] >= 0 for term in ("ce", "kd", "dad"))
    student = pipeline.load(found["student/dad-0"].folder)
    test = open_dataset(found["dataset/i"].folder).read_split("test")
    with torch.no_grad():
        expected = student(test.images[:].float() / 255).argmax(1)
    outcomes = pq.read_table(found["evaluation/dad-0.main"].get_verified_path("outcomes.parquet"))
    assert outcomes["prediction"].to_pylist() == expected.tolist()
    assert outcomes["label"].to_pylist() == test.labels.tolist()
