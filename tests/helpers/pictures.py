"""Small image folders and tar shards in ImageNet's layout, and data sets of them."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.dataset_artefact import DatasetArtefact, open_dataset
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.stages import prepare_data
from pipeline.store.artefact import read_job, write_manifest

CLASSES = ("n01440764", "n01443537", "n01484850")
SIZE = 16


def image(seed: int, label: int) -> Image.Image:
    """A random image of some size, whose colour tells its class."""
    rng = np.random.default_rng(seed)
    shape = (20 + seed % 7, 26 + seed % 5, 3)
    return Image.fromarray(rng.integers(60 * label, 60 * label + 80, shape, np.uint8))


def folders(root: Path, classes=CLASSES, each: int = 4, split: str = "train") -> Path:
    """Class folders with a few images each, one of them grey."""
    for label, name in enumerate(classes):
        for i in range(each):
            path = root / split / name / f"{name}_{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            made = image(7 * label + i, label % 3)
            (made.convert("L") if i == 1 else made).save(path, format="JPEG", quality=95)
    return root


def shards(root: Path, split: str = "train", each: int = 4) -> Path:
    """The same images in two tar shards, as WebDataset writes them."""
    for number in range(2):
        root.mkdir(exist_ok=True)
        with tarfile.open(root / f"{split}-{number}.tar", "w") as tar:
            for label, name in enumerate(CLASSES):
                for i in range(number, each, 2):
                    for kind, data in (("jpg", encoded(label, i)), ("cls", str(label).encode())):
                        member = tarfile.TarInfo(f"{name}_{i}.{kind}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
    return root


def encoded(label: int, i: int) -> bytes:
    buffer, made = io.BytesIO(), image(7 * label + i, label % 3)
    (made.convert("L") if i == 1 else made).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def planned(tmp_path: Path, source: dict, **counts: int) -> Plan:
    counts = {"train": 9, "val": 3, "test": 3} | counts
    return planned_of(tmp_path, {"source": source, **counts})


def planned_of(tmp_path: Path, section: dict) -> Plan:
    raw = {"store": str(tmp_path / "store"), "datasets": {"d": section}}
    return make_plan_from_dict(raw | {"run": {"data": str(tmp_path)}})


def made(tmp_path: Path, source: dict, **counts: int) -> DatasetArtefact:
    """The data set's artefact, made by its stage."""
    counts = {"train": 9, "val": 3, "test": 3} | counts
    return made_of(tmp_path, {"source": source, **counts})


def made_of(tmp_path: Path, section: dict) -> DatasetArtefact:
    """The artefact of a section, made by its stage."""
    plan = planned_of(tmp_path, section)
    write_job_files(plan)
    job = read_job(plan.folder_path(plan.refs_by_name["dataset", "d"]))
    write_manifest(job, prepare_data.run(job))
    return open_dataset(job.folder)


def source(root: Path, kind: str = "imagefolder", **more: object) -> dict:
    options = {"path": str(root), "version": "1", "size": SIZE, "folders": list(CLASSES)}
    return {kind: options | more}
