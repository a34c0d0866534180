"""How fast banks are read by format: `python -m benchmarks.bank_reading`.

Writes banks of random images into a temporary folder and reads each through the reader that
students use, which checks the sums. The forms take turns for several rounds, on one core. Times are
CPU seconds, so other processes matter little.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import (
    describe_run,
    format_table,
    parse_settings,
    show,
    summarise,
    take_turns,
    write_result,
)
from pipeline.banks.builder import FILES_FIELD, convert_to_stored_form
from pipeline.banks.image_codec import encode_image
from pipeline.banks.reader import read_bank
from pipeline.banks.shards import ShardLayout, shard_name, write_shard
from pipeline.config.sections.bank import BankSpec
from pipeline.config.specs import get_spec
from pipeline.store import artefact
from pipeline.store.artefact import Job, write_manifest

CLASSES, SHARDS, BLOCK = 10, 4, 128
FORMS = {  # name -> spec, side in pixels, images
    "32 px, blocks": ({}, 32, 20480),
    "32 px, png": ({"encoding": "png"}, 32, 2048),
    "32 px, jpeg 95": ({"encoding": "jpeg"}, 32, 2048),
    "224 px, png": ({"encoding": "png"}, 224, 256),
    "224 px, jpeg 95": ({"encoding": "jpeg"}, 224, 256),
}


def smooth(rng: np.random.Generator, count: int, side: int) -> torch.Tensor:
    """Random images (N,3,side,side) uint8 with similar neighbouring pixels, as in photos."""
    coarse = torch.from_numpy(rng.random((count, 3, side // 8, side // 8), np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    noise = torch.from_numpy(rng.normal(0, 0.02, fine.shape).astype(np.float32))
    return ((fine + noise).clamp(0, 1) * 255).to(torch.uint8)


def written(folder: Path, spec: dict, side: int, count: int) -> Job:
    """A finished bank of random images."""
    folder.mkdir(parents=True)
    common = {"seed": 0, "device": "cpu", "reject": "drop", "shards": SHARDS, "block": BLOCK}
    job = Job(folder, "bank", "b", folder.name, {**common, **spec}, {}, {})
    layout, bank_spec = ShardLayout(count, SHARDS, BLOCK), get_spec(job)
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        blocks = (
            (n, block_of(rng, layout.get_block_rows(n), side, bank_spec), {})
            for n in layout.get_shard_blocks(shard)
        )
        write_shard(folder / shard_name(shard), blocks, bank_spec, folder.name)
    write_manifest(job, job.build_manifest([shard_name(i) for i in range(SHARDS)], {"rows": count}))
    return job


def block_of(rng: np.random.Generator, rows: range, side: int, spec: BankSpec) -> dict:
    """A block with one sample for each row."""
    images, size = smooth(rng, len(rows), side), len(rows)
    logits = rng.normal(size=(size, CLASSES)).astype(np.float16)
    block = {
        "row": np.arange(rows.start, rows.stop),
        "label": np.zeros(size, np.int16),
        "accepted": np.ones(size, bool),
        "t_clean": logits,
        "x_adv": images.numpy(),
        "t_adv": logits,
        "flips": np.zeros(size, np.float16),
    }
    if spec.encoding != "blocks":
        block[FILES_FIELD] = [encode_image(image, spec.encoding, 95) for image in images]
    return convert_to_stored_form(block, spec)


def opened(folder: Path) -> None:
    """Read every sample of a bank as pixels; image files are decoded in random batches."""
    artefact.verify.cache_clear()
    stored = read_bank(folder).fields["x_adv"]
    if not isinstance(stored, torch.Tensor):
        for rows in torch.randperm(len(stored)).split(BLOCK):
            stored[rows]


def main() -> None:
    """Measure and write `bank-reading.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as place:
        folders, counts = {}, {}
        for i, (name, (spec, side, count)) in enumerate(FORMS.items()):
            counts[name] = settings.scale(count, least=BLOCK)
            folders[name] = written(Path(place) / str(i), spec, side, counts[name]).folder
        works = {name: lambda folder=folder: opened(folder) for name, folder in folders.items()}
        spent = take_turns(works, settings.rounds)
        sizes = {n: sum(p.stat().st_size for p in f.glob("*.tar")) for n, f in folders.items()}
    rows, data = [], {}
    for name, found in spent.items():
        rates = [counts[name] / s for s in found]
        rows.append([name, counts[name], show(rates, 0), f"{sizes[name] / counts[name]:,.0f}"])
        data[name] = summarise(rates)
    text = f"""# Reading a bank by format

`python -m benchmarks.bank_reading`: synthetic images with photo-like smoothness, {SHARDS} shards,
read through the reader that students use (sums checked), on one core, CPU seconds.
{describe_run(settings)}

{format_table(["form", "images", "images a second", "bytes an image"], rows)}

`blocks` are read into memory in one piece. Of `png` and `jpeg` every image is decoded once, in
batches of 128 in random order, as training does."""
    write_result(settings, "bank-reading", text, data)


if __name__ == "__main__":
    main()
