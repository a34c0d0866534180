"""Stage: a bank of discretised adversarial samples (DAD, Sec. 3.3; METHODS: bank generation)."""

import logging
from collections.abc import Iterator

from pipeline.banks.builder import Maker, as_written
from pipeline.banks.shards import Block, shard_name, sidecar_of, whole, write_shard
from pipeline.config.specs import spec_of
from pipeline.errors import RetortError
from pipeline.interrupts import Wish, stoppable
from pipeline.progress import Progress
from pipeline.store.artifact import Job, Manifest, read_json
from pipeline.store.lease import leased

REVISION = 1

log = logging.getLogger("retort")

Made = Iterator[tuple[int, Block, dict]]


def run_group(job: Job, shards: range) -> None:
    """Make the missing, altered or foreign shards of a range; whole ones are left alone.

    Raises:
        RetortError: the range is not of this bank.
        SystemExit: the process was asked to stop; finished shards stay.
    """
    count = spec_of(job).shards
    if not 0 <= shards.start < shards.stop <= count:
        raise RetortError(
            f"--shards {shards.start}:{shards.stop}: the bank has {count} shards; "
            f"give a range within 0:{count}"
        )
    maker = Maker(job)
    for shard in shards:
        path = job.folder / shard_name(shard)
        with leased(job.folder, sidecar_of(path), path.stem), stoppable() as wish:
            if not whole(path, job.key):
                make_shard(maker, shard, wish)


def make_shard(maker: Maker, shard: int, wish: Wish) -> None:
    """Compute and write one shard."""
    job, spec = maker.job, maker.spec
    path = job.folder / shard_name(shard)
    sidecar_of(path).unlink(missing_ok=True)
    made = blocks(maker, shard, wish)
    if spec.views is not None:
        made = maker.with_views(list(made))
    written = ((number, as_written(block, spec), counts) for number, block, counts in made)
    counts = write_shard(path, written, spec, job.key)["counts"]
    log.info("shard %d: %d rows%s", shard, counts["rows"], shown_share(counts))


def shown_share(counts: dict) -> str:
    """`, 58.1 % accepted`; nothing for a bank without samples."""
    if "accepted" not in counts:
        return ""
    return f", {100 * counts['accepted'] / counts['rows']:.1f} % accepted"


def blocks(maker: Maker, shard: int, wish: Wish) -> Made:
    """The blocks of a shard, one after the other, until the process is asked to stop."""
    numbers = maker.layout.blocks_of(shard)
    progress = Progress(f"shard {shard}, block", len(numbers))
    for number in numbers:
        if wish:
            log.info("asked to stop: shard %d is left for the next run", shard)
            raise SystemExit(128 + wish.signal)
        yield number, *maker.block(maker.layout.rows_of(number), number == numbers.start)
        progress.step()


def run(job: Job) -> Manifest:
    """Make what is missing, then the manifest over all shards."""
    run_group(job, range(spec_of(job).shards))
    return manifest_of(job)


def manifest_of(job: Job) -> Manifest:
    """The manifest over a bank's finished shards, with the facts of all."""
    names = [shard_name(shard) for shard in range(spec_of(job).shards)]
    totals: dict[str, float] = {}
    for name in names:
        note = read_json(sidecar_of(job.folder / name), "run again to make the shard anew")
        for field, value in note["counts"].items():
            totals[field] = totals.get(field, 0) + value
    return job.manifest(names, rates(totals))


def rates(totals: dict[str, float]) -> dict:
    """A bank's facts: counts, and shares in [0,1]; what was not measured is left out."""
    rows, found = totals["rows"], {"rows": int(totals["rows"])}
    if "clean_right" in totals:
        found["teacher_clean_accuracy"] = totals["clean_right"] / rows
    if "accepted" in totals:
        found |= {
            "accepted": int(totals["accepted"]),
            "acceptance": totals["accepted"] / rows,
            "token_flips": totals["flips"] / rows,
            "pixel_change": totals["change"] / rows,
        }
    if probed := totals.get("probed"):
        requantised = totals["probed_requantised"] / probed
        found["token_flips_requantised"] = requantised
        found["token_flips_beyond"] = totals["probed_flips"] / probed - requantised
    return found
