"""A store with one finished student on random images, written by hand."""

from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.models.classifier import MODEL_FILE, initialise_classifier, save_classifier
from pipeline.store.artefact import JOB_FILE, Job, write_json, write_manifest

CLASSES = ("cat", "dog", "frog")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def write_artefact(
    folder: Path, name: str, spec: dict, inputs: dict, facts: dict, files: list[str]
) -> None:
    """The job file and the manifest of files that lie in the folder, and a link by name."""
    kind, key = folder.parent.name, folder.name
    store = folder.parent.parent
    places = {role: store / ref for role, ref in inputs.items()}
    job = Job(folder, kind, name, key, spec, places, code={})
    about = {**asdict(job), "inputs": inputs}
    write_json(folder / JOB_FILE, {k: v for k, v in about.items() if k not in ("folder", "strict")})
    write_manifest(job, job.build_manifest(files, facts))
    link = store / "by-name" / kind / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder.resolve())


def write_student(root: Path, model: str, side: int, channels: int = 3, crop: float = 1.0) -> Path:
    """The folder of a student with random weights and statistics of a network."""
    dataset = root / "store" / "dataset" / "0123456789ab"
    student = root / "store" / "student" / "ba9876543210"
    dataset.mkdir(parents=True)
    student.mkdir(parents=True)
    mean, std = MEAN[:channels], STD[:channels]
    facts = {"classes": CLASSES, "mean": mean, "std": std, "shape": (channels, side, side)}
    facts["files"] = {"root": "photos", "size": side, "crop": crop, "decode": "as_seen"}
    write_artefact(dataset, "photos", {"source": {"imagefolder": {}}, "train": 84}, {}, facts, [])
    network = initialise_classifier(model, len(CLASSES), mean, std, seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    save_classifier(network, student / MODEL_FILE, model, CLASSES)
    spec = {"model": model, "objective": {"adaad": {"steps": 2}}, "seed": 0}
    inputs = {"dataset": "dataset/0123456789ab"}
    write_artefact(student, "adaad-0", spec, inputs, {}, [MODEL_FILE])
    return student
