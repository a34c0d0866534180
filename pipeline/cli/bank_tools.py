"""The verb `bank`: verify and mend, describe, decode from tokens, merge."""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pipeline.banks import image_codec
from pipeline.banks.builder import FILES_FIELD, convert_to_stored_form
from pipeline.banks.reader import read_blocks
from pipeline.banks.shards import (
    IMAGE_SUFFIXES,
    Block,
    ShardLayout,
    describe_shard_fault,
    is_whole,
    read_shard,
    shard_name,
    sidecar_path,
    write_shard,
)
from pipeline.config.sections.bank import BankSpec
from pipeline.config.specs import get_spec
from pipeline.errors import RetortError
from pipeline.models import vqgan
from pipeline.models.classifier import MODEL_FILE
from pipeline.progress import track_steps
from pipeline.stages.build_bank import make_manifest
from pipeline.store.artefact import (
    MANIFEST_FILE,
    Job,
    Manifest,
    compute_sha256,
    open_artefact,
    read_job,
    read_json,
    write_atomically,
    write_manifest,
)
from pipeline.store.lease import hold_lease

NEVER_MADE = Path("/nonexistent")  # a lease that never finds the work done already
FORM_FIELDS = {
    "encoding",
    "quality",
    "tokens",
}  # what tells a bank of tokens from its twin with pixels


def run_verb(options: argparse.Namespace) -> None:
    """Run one of the tools on a folder."""
    job = read_job(options.folder)
    if job.kind != "bank":
        raise RetortError(f"{options.folder}: holds a {job.kind}; give a bank's folder")
    if options.tool == "verify":
        verify(job, options.mend)
    elif options.tool == "info":
        print("\n".join(f"{name:28} {value}" for name, value in describe_bank(job)))
    elif options.tool == "decode":
        decode_bank(job, read_job(options.to))
    else:
        merge_banks(job, [read_job(other) for other in options.others])


def read_manifest(job: Job) -> Manifest | None:
    """The bank's manifest, None if it is not complete."""
    return open_artefact(job.folder).manifest if (job.folder / MANIFEST_FILE).exists() else None


def list_shard_names(job: Job) -> list[str]:
    """File names of all of a bank's shards."""
    return [shard_name(i) for i in range(get_spec(job).shards)]


# verify


def verify(job: Job, mend: bool) -> None:
    """Name every fault of a bank; ``mend`` clears the way for making the faulty shards again.

    Raises:
        RetortError: something is wrong and was left as it is.
    """
    manifest, shards = read_manifest(job), get_spec(job).shards
    broken = dict(find_faults(job, manifest))
    foreign = sorted({p.name for p in job.folder.glob("shard-*.tar")} - set(list_shard_names(job)))
    for name, what in broken.items():
        print(f"{job.folder / name}: {what}")
    for name in foreign:
        print(f"{job.folder / name}: is not of this bank of {shards} shards; delete it")
    if not broken:
        state = "complete" if manifest is not None else "not finished: run 'retort run'"
        print(f"{job.folder}: all {shards} shards are whole; {state}")
        return
    count = f"{len(broken)} of {shards} shards"
    if not mend:
        raise RetortError(
            f"{job.folder}: {count} are not whole; add --mend, and 'retort run' makes those again "
            "and no others"
        )
    with hold_lease(job.folder, NEVER_MADE):
        (job.folder / MANIFEST_FILE).unlink(missing_ok=True)
        for name in broken:
            sidecar_path(job.folder / name).unlink(missing_ok=True)
            for marker in find_group_markers(job, list_shard_names(job).index(name)):
                marker.unlink()
    print(f"{job.folder}: the next run makes {count} again")


def find_faults(job: Job, manifest: Manifest | None) -> Iterator[tuple[str, str]]:
    """What is wrong with each shard that is not whole, by its manifest or else its sidecar."""
    names = list_shard_names(job)
    for number, name in enumerate(track_steps("shard", names, len(names))):
        path = job.folder / name
        if manifest is None:
            what = describe_shard_fault(path, job.key)
        elif not path.exists():
            what = "is missing"
        else:
            same = compute_sha256(path) == manifest.files.get(name, {}).get("sha256")
            what = (
                ""
                if same
                else describe_shard_fault(path, job.key) or "does not match the manifest's sha256"
            )
        what = what or describe_row_fault(job, manifest, number)
        if what:
            yield name, what


def describe_row_fault(job: Job, manifest: Manifest | None, number: int) -> str:
    """What is wrong inside a shard whose sum is right, empty if nothing is."""
    spec = get_spec(job)
    try:
        blocks = [b["row"] for b in read_blocks(job.folder / shard_name(number), spec)]
    except RetortError as error:
        return str(error).partition(": ")[2]
    rows = np.concatenate(blocks) if blocks else np.empty(0, np.int64)
    if manifest is None:
        return ""
    layout = ShardLayout(manifest.facts["rows"], spec.shards, spec.block)
    due = layout.get_shard_rows(number)
    if np.array_equal(rows, np.arange(due.start, due.stop)):
        return ""
    return f"does not hold rows {due.start} to {due.stop - 1}, so it is of another bank"


def find_group_markers(job: Job, shard: int) -> list[Path]:
    """The workflow's markers of groups that hold a shard."""
    found = []
    for path in (job.folder / "groups").glob("*-*.json"):
        first, stop = map(int, path.stem.split("-"))
        found += [path] if first <= shard < stop else []
    return found


# info


def describe_bank(job: Job) -> Iterator[tuple[str, str]]:
    """Identity, counts, rates, bytes a sample, fields."""
    manifest = read_manifest(job)
    if manifest is None:
        raise RetortError(f"{job.folder}: is not finished; run 'retort run'")
    facts, spec = manifest.facts, get_spec(job)
    yield "name", f"{manifest.name} ({manifest.key})"
    yield "shards", f"{spec.shards} of blocks of {spec.block} rows"
    yield "encoding", spec.encoding if spec.has_samples else "outputs alone"
    for name, value in facts.items():
        yield name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
    total = sum(file["bytes"] for file in manifest.files.values())
    kept = facts["rows"] if spec.reject != "drop" else facts["accepted"]
    yield "bytes", f"{total:,}"
    yield "bytes a sample", f"{total / max(kept, 1):.1f}"
    block = next(read_shard(job.folder / shard_name(0)), {})
    for name, value in block.items():
        shape = f"{len(value)} files" if isinstance(value, list) else f"{value.dtype} {value.shape}"
        yield f"field {name}", f"{shape} in the first block"


# decode


def decode_bank(job: Job, twin: Job) -> None:
    """Fill a bank's folder with the pixels of its tokens, and complete it.

    Each block is decoded at the batch size at which it was made, so that on the same kind of
    machine the shards are those that the twin's own job would have written, byte for byte.

    Raises:
        RetortError: the two are not one bank in two forms.
    """
    check_twins(job, twin)
    spec, wanted = get_spec(job), get_spec(twin)
    source = open_artefact(job.folder)
    path = open_artefact(twin.inputs["discretizer"]).get_verified_path(MODEL_FILE)
    discretizer = vqgan.load(path).to(wanted.device).requires_grad_(False)
    layout = ShardLayout(source.manifest.facts["rows"], spec.shards, spec.block)
    with hold_lease(twin.folder, twin.folder / MANIFEST_FILE) as needed:
        names = list_shard_names(twin) if needed else []
        for number, name in enumerate(track_steps("shard", names, len(names))):
            if not is_whole(twin.folder / name, twin.key):
                path, first = source.get_verified_path(name), layout.get_shard_blocks(number).start
                counts = read_json(sidecar_path(path), "copy it with its shard")["counts"]
                decoded = (
                    (n, decode_block(block, wanted, discretizer), counts if n == first else {})
                    for n, block in enumerate(read_shard(path), first)
                )
                write_shard(twin.folder / name, decoded, wanted, twin.key)
        if needed:
            write_manifest(twin, make_manifest(twin))
    print(f"{twin.folder}: holds the pixels of {job.folder.name}")


def check_twins(job: Job, twin: Job) -> None:
    """Raise unless ``twin`` is the same bank as ``job`` with pixels, losslessly encoded."""
    spec, wanted = get_spec(job), get_spec(twin)
    if not spec.has_tokens or spec.encoding == "jpeg":
        raise RetortError(
            f"{job.folder}: has no tokens of what the teacher judged; give a bank with 'tokens: "
            "true' or 'encoding: tokens'"
        )
    if wanted.encoding not in ("blocks", "png"):
        raise RetortError(
            f"{twin.folder}: encoding is {wanted.encoding}; the outputs are of exact "
            "pixels, so set it to blocks or png"
        )
    specs = [one.model_dump(exclude=FORM_FIELDS) for one in (spec, wanted)]
    if specs[0] != specs[1] or job.inputs != twin.inputs:
        raise RetortError(
            f"{twin.folder}: is another bank than {job.folder.name}, not its twin; let the two "
            f"differ in {', '.join(sorted(FORM_FIELDS))} alone"
        )


@torch.no_grad()
def decode_block(block: Block, spec: BankSpec, discretizer: vqgan.VQGAN) -> Block:
    """A block of tokens in the form that a spec asks for."""
    tokens = torch.from_numpy(block["tokens"].astype(np.int64))
    kept = torch.from_numpy(block["accepted"])
    grid = torch.zeros((len(kept), *tokens.shape[1:]), dtype=torch.int64)
    grid[kept] = tokens
    images = (discretizer.decode_tokens(grid.to(spec.device)) * 255).round()
    block = {**block, "x_adv": images.to(torch.uint8).cpu()[kept].numpy()}
    if spec.encoding in IMAGE_SUFFIXES:
        encoded = image_codec.encode_image
        form, shown = spec.encoding, torch.from_numpy(block["x_adv"])
        block[FILES_FIELD] = [encoded(image, form, 100) for image in shown]
    if not spec.has_tokens:
        del block["tokens"]
    return convert_to_stored_form(block, spec)


# merge


def merge_banks(job: Job, other_jobs: list[Job]) -> None:
    """Copy whole shards of the same bank from elsewhere; complete the bank once all are there.

    Raises:
        RetortError: a folder is of another bank; nothing is copied then.
    """
    for other in other_jobs:
        if other.key != job.key:
            raise RetortError(
                f"{other.folder}: is bank {other.key}, not {job.key}; merge folders of one key"
            )
    for other in other_jobs:
        names = list_shard_names(job)
        for name in track_steps("shard", names, len(names)):
            source, target = other.folder / name, job.folder / name
            if is_whole(source, job.key) and not is_whole(target, job.key):
                for path in (source, sidecar_path(source)):
                    with write_atomically(job.folder / path.name) as temporary:
                        shutil.copyfile(path, temporary)
    missing = [name for name in list_shard_names(job) if not is_whole(job.folder / name, job.key)]
    if missing:
        print(f"{job.folder}: {len(missing)} shards are missing still: {', '.join(missing)}")
        return
    with hold_lease(job.folder, job.folder / MANIFEST_FILE) as needed:
        if needed:
            write_manifest(job, make_manifest(job))
    print(f"{job.folder}: complete")
