"""A store with what banks are made from, at the smallest size: real images, real networks.

The teacher is an untrained network that is fitted to nothing: its own guesses are the labels but
for every fifth row, so that the filter has something to accept and something to reject.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.data.splits import Split, save_split
from pipeline.datasets import cifar10
from pipeline.models import vqgan
from pipeline.models.classifier import MODEL_FILE, initialise_classifier, save_classifier
from pipeline.stages import build_bank
from pipeline.store.artefact import (
    JOB_FILE,
    MANIFEST_FILE,
    Job,
    read_job,
    write_json,
    write_manifest,
)
from tests.helpers.graph import DATA

ROWS, BLOCK, SHARDS, CLASSES = 44, 8, 3, 10
NAMES = tuple(f"class {i}" for i in range(CLASSES))
CODES = 32
COLOURS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
ATTACK = {
    "norm": "l2",
    "eps": 1.0,
    "step": 1.0,
    "steps": 1,
    "start_probability": 0.8,
    "grad_path": "identity",
}
BASE = {"seed": 3, "device": "cpu", "shards": SHARDS, "block": BLOCK}
SAMPLES = {**BASE, "attack": ATTACK, "reject": "drop"}


def key_of(name: str) -> str:
    """Twelve hexadecimal digits for a name, as keys are."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


@cache
def images() -> Tensor:
    """The first CIFAR-10 test images (N,3,32,32) uint8."""
    return torch.as_tensor(cifar10.load("test", DATA)[0][:ROWS])


@cache
def teacher() -> nn.Module:
    """An untrained classifier whose logits are spread out."""
    model = initialise_classifier("resnet8-s2-w8", CLASSES, COLOURS["mean"], COLOURS["std"], 3)
    with torch.no_grad():
        list(model.parameters())[-2].mul_(8)
    return model.eval().requires_grad_(False)


@cache
def labels() -> Tensor:
    """The teacher's guesses, every fifth one altered."""
    with torch.no_grad():
        guesses = teacher()(images().float() / 255).argmax(1)
    return torch.where(torch.arange(ROWS) % 5 == 4, (guesses + 1) % CLASSES, guesses)


@cache
def quantiser() -> vqgan.VQGAN:
    """An untrained VQGAN of 16x16 tokens whose codes are spread as its latents are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = vqgan.VQGAN(
            vqgan.VQGANArchitecture(
                ch=32,
                ch_mult=(1,),
                num_res_blocks=0,
                attn_resolutions=(),
                n_codes=CODES,
                resolution=32,
                unshuffle=2,
                mid_attention=False,
            )
        )
        with torch.no_grad():
            latents = model.encode(images()[:8].float() / 255)
            flat = latents.permute(0, 2, 3, 1).flatten(0, 2)
            model.codebook.copy_(flat[torch.randperm(len(flat))[:CODES]])
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Store:
    """A folder of artefacts."""

    path: Path

    def folder(self, kind: str, name: str) -> Path:
        """An artefact's folder, made if need be."""
        place = self.path / kind / key_of(name)
        place.mkdir(parents=True, exist_ok=True)
        return place

    def add(self, kind: str, name: str, files: list[str], facts: dict) -> None:
        """Complete an artefact whose files lie in its folder."""
        job = Job(self.folder(kind, name), kind, name, key_of(name), {}, {}, {})
        write_manifest(job, job.build_manifest(files, facts))

    def bank(self, name: str = "made", **spec: object) -> Job:
        """The job file of a bank; it has a discretiser if its spec has an attack."""
        made_from = {"dataset": "data", "teacher": "teacher"}
        made_from |= {"discretizer": "vq"} if "attack" in spec else {}
        inputs = {kind: f"{kind}/{key_of(of)}" for kind, of in made_from.items()}
        order = {"kind": "bank", "name": name, "key": key_of(name), "spec": spec, "inputs": inputs}
        folder = self.folder("bank", name)
        write_json(folder / JOB_FILE, {**order, "code": {}, "run": {}})
        return read_job(folder)

    def made(self, name: str = "made", **spec: object) -> Job:
        """A finished bank."""
        job = self.bank(name, **spec)
        if not (job.folder / MANIFEST_FILE).exists():
            write_manifest(job, build_bank.run(job))
        return job


def store_in(path: Path) -> Store:
    """A store that holds the data set, the teacher and the discretiser."""
    store = Store(path.resolve() / "store")
    data = store.folder("dataset", "data")
    save_split(data / "train.safetensors", Split(images(), labels()))
    save_split(data / "val.safetensors", Split(images()[:0], labels()[:0]))
    facts = {"classes": NAMES, **COLOURS, "shape": (3, 32, 32)}
    store.add("dataset", "data", ["train.safetensors", "val.safetensors"], facts)
    save_classifier(
        teacher(), store.folder("teacher", "teacher") / MODEL_FILE, "resnet8-s2-w8", NAMES
    )
    store.add("teacher", "teacher", [MODEL_FILE], {})
    vqgan.save(quantiser(), store.folder("discretizer", "vq") / MODEL_FILE)
    store.add("discretizer", "vq", [MODEL_FILE], {})
    return store


def shards_of(job: Job) -> dict[str, bytes]:
    """Bytes of every shard."""
    return {p.name: p.read_bytes() for p in sorted(job.folder.glob("shard-*.tar"))}
