"""What building a bank costs by part: `python -m benchmarks.bank_building`.

The demo's CLIP and VQGAN in size, trained for one short epoch by the pipeline's own stages. Each
part has its turn on the same block; the last is the whole block as the stage builds it.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from benchmarks.dad_step import made
from benchmarks.timing import (
    ROOT,
    Settings,
    describe_run,
    divide,
    format_table,
    parse_settings,
    show,
    summarise,
    take_turns,
    write_result,
)
from pipeline.banks.builder import BankBuilder, convert_to_stored_form
from pipeline.banks.shards import write_shard
from pipeline.core.images import scale_to_unit_range
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import compute_input_gradient, freeze_modules
from pipeline.planning.graph import make_plan_from_dict
from pipeline.store.artefact import read_job

TIMES = {  # part -> how often it runs in a block with one attack step
    "start noise, a draw a row": 1,
    "encoder": 2,
    "decoder": 2,
    "teacher, forward": 2,
    "teacher, gradient of the pixels": 1,
    "writing the block": 1,
}


def experiment(folder: Path, images: int) -> dict:
    """The demo's CLIP, VQGAN and bank over a few images, each trained for one epoch."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    clip, quantizer, bank = raw["teachers"]["clip"], raw["discretizers"]["vq"], raw["banks"]["dad"]
    return {
        "store": str(folder / "store"),
        "seed": 0,
        "run": {"data": str(ROOT / "data")},
        "recipes": raw["recipes"],
        "datasets": {"few": {"source": "cifar10", "train": images, "val": 0, "test": 64}},
        "teachers": {"clip": {**clip, "dataset": "few", "epochs": 1}},
        "discretizers": {"vq": {**quantizer, "dataset": "few", "epochs": 1}},
        "banks": {"dad": {**bank, "dataset": "few", "shards": 1, "block": images}},
    }


def list_parts(builder: BankBuilder, folder: Path) -> dict[str, Callable[[], object]]:
    """The parts of a block, and the block."""
    images, spec = builder.split.images, builder.spec
    rows, x, y = range(len(images)), scale_to_unit_range(images), builder.split.labels
    quantizer, teacher = builder.discretizer, builder.teacher
    with torch.no_grad():
        tokens = quantizer.encode_to_tokens(x)
        q = quantizer.decode_tokens(tokens)
    block, counts = builder.build_block(rows, False)

    def find_gradient() -> None:
        with freeze_modules(teacher):
            compute_input_gradient(lambda z: cross_entropy(teacher(z), y), q)

    def write() -> None:
        stored = (0, convert_to_stored_form(block, spec), counts)
        write_shard(folder / "shard-000000.tar", iter([stored]), spec, builder.job.key)

    return {
        "start noise, a draw a row": lambda: builder.draw_start(q, rows),
        "encoder": torch.no_grad()(lambda: quantizer.encode_to_tokens(x)),
        "decoder": torch.no_grad()(lambda: quantizer.decode_tokens(tokens)),
        "teacher, forward": torch.no_grad()(lambda: teacher(x)),
        "teacher, gradient of the pixels": find_gradient,
        "writing the block": write,
        "the whole block": lambda: builder.build_block(rows, False),
    }


def measure(settings: Settings, images: int) -> dict[str, list[float]]:
    """Seconds of each part in each round."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plan = make_plan_from_dict(experiment(folder, images))
        made(plan, ("dataset", "teacher", "discretizer"))
        job = read_job(plan.folder_path(plan.refs_by_name["bank", "dad"]))
        return take_turns(list_parts(BankBuilder(job), folder), settings.rounds)


def main() -> None:
    """Measure and write `bank-building.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    images = settings.scale(320, least=128)
    seconds = measure(settings, images)
    whole, rows, data = seconds["the whole block"], [], {}
    for name, found in seconds.items():
        times = TIMES.get(name, 1)
        share = divide([times * s for s in found], whole)
        rows.append([name, times, show([1000 * s / images for s in found]), show(share)])
        data[name] = summarise(share)
    head = ["part", "times a block", "CPU ms an image, once", "share of the block"]
    text = f"""# Building a bank by part

`python -m benchmarks.bank_building`: the demo's CLIP (a ResNet tower of width 32) and VQGAN (32
channels), one block of {images} images at 32 px, one attack step. {describe_run(settings)}

{format_table(head, rows)}

The block includes a second look of the teacher at refused samples where the bank keeps them, and
not its writing."""
    write_result(settings, "bank-building", text, data)


if __name__ == "__main__":
    main()
