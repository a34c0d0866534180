"""Stage: a bank of adversarial samples: discretized (DAD, Sec. 3.3), or PGD's."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.banks.builder import BankBuilder, convert_to_stored_form
from pipeline.banks.launched import LaunchedBlock
from pipeline.banks.shards import Block, is_whole, shard_name, sidecar_path, write_shard
from pipeline.banks.view_outputs import launch_view_outputs
from pipeline.config.sections.bank import BankSpec
from pipeline.config.specs import get_spec
from pipeline.core.devices.bf16_products import widen_products
from pipeline.errors import RetortError
from pipeline.interrupts import StopRequest, defer_stop_signals
from pipeline.progress import Progress
from pipeline.store.artefact import Job, Manifest, read_json
from pipeline.store.lease import hold_lease

REVISION = 1

ENCODED_AHEAD = 2  # blocks that are fetched and encoded while the next is launched

log = logging.getLogger("retort")

NumberedBlocks = Iterator[tuple[int, Block, dict]]
LaunchedBlocks = Iterator[tuple[int, LaunchedBlock]]


def run_group(job: Job, shards: range) -> None:
    """Make the missing, altered or foreign shards of a range; intact ones are left alone.

    Raises:
        RetortError: the bank has no such range of shards.
        SystemExit: the process was asked to stop; finished shards stay.
    """
    count = get_spec(job).shards
    if not 0 <= shards.start < shards.stop <= count:
        raise RetortError(
            f"--shards {shards.start}:{shards.stop}: the bank has {count} shards; "
            f"give a range within 0:{count}"
        )
    builder = BankBuilder(job)
    for shard in shards:
        path = job.folder / shard_name(shard)
        with hold_lease(job.folder, sidecar_path(path), path.stem), defer_stop_signals() as wish:
            if not is_whole(path, job.key):
                with widen_products(builder.spec.device, builder.spec.bf16):
                    make_shard(builder, shard, wish)
        if wish:
            log.info("asked to stop: finished shards are kept")
            raise SystemExit(128 + wish.signal_number)


def make_shard(builder: BankBuilder, shard: int, wish: StopRequest) -> None:
    """Compute and write one shard."""
    job, spec = builder.job, builder.spec
    path = job.folder / shard_name(shard)
    sidecar_path(path).unlink(missing_ok=True)
    launched = launch_blocks(builder, shard, wish)
    if spec.views is not None:
        launched = launch_view_outputs(builder, list(finish_ahead(launched, LaunchedBlock.fetch)))
    written = encode_ahead(launched, spec)
    counts = write_shard(path, written, spec, job.key)["counts"]
    log.info("shard %d: %d rows%s", shard, counts["rows"], format_acceptance(counts))


def encode_ahead(launched_blocks: LaunchedBlocks, spec: BankSpec) -> NumberedBlocks:
    """The blocks in their stored form, in order, as ``finish_ahead`` yields them."""

    def encode(launched: LaunchedBlock) -> tuple[Block, dict]:
        block, counts = launched.fetch()
        return convert_to_stored_form(block, spec), counts

    return finish_ahead(launched_blocks, encode)


def finish_ahead(
    launched_blocks: LaunchedBlocks, finish: Callable[[LaunchedBlock], tuple[Block, dict]]
) -> NumberedBlocks:
    """The finished blocks, in order; threads wait for some while others are launched.

    At most ``ENCODED_AHEAD`` + 1 blocks are launched and not yielded. An error of a thread ends the
    iteration.
    """
    waiting: deque[tuple[int, Future]] = deque()
    with ThreadPoolExecutor(ENCODED_AHEAD, "encode") as pool:
        for number, launched in launched_blocks:
            waiting.append((number, pool.submit(finish, launched)))
            if len(waiting) > ENCODED_AHEAD:
                yield take_finished(waiting)
        while waiting:
            yield take_finished(waiting)


def take_finished(waiting: deque[tuple[int, Future]]) -> tuple[int, Block, dict]:
    """The oldest block, once it is finished."""
    number, finished = waiting.popleft()
    return number, *finished.result()


def format_acceptance(counts: dict) -> str:
    """`, 58.1 % accepted`; empty for a bank without samples."""
    if "accepted" not in counts:
        return ""
    return f", {100 * counts['accepted'] / counts['rows']:.1f} % accepted"


def launch_blocks(builder: BankBuilder, shard: int, wish: StopRequest) -> LaunchedBlocks:
    """Yield a shard's blocks, numbered and launched; exit if the process is asked to stop."""
    numbers = builder.layout.get_shard_blocks(shard)
    progress = Progress(f"shard {shard}, block", len(numbers))
    for number in numbers:
        if wish:
            log.info("asked to stop: shard %d is left for the next run", shard)
            raise SystemExit(128 + wish.signal_number)
        rows = builder.layout.get_block_rows(number)
        yield number, builder.launch_block(rows, number == numbers.start)
        progress.add_steps()


def run(job: Job) -> Manifest:
    """Make the missing shards and return the manifest over all shards."""
    run_group(job, range(get_spec(job).shards))
    return make_manifest(job)


def make_manifest(job: Job) -> Manifest:
    """The manifest over a bank's finished shards, with the facts summed over them."""
    names = [shard_name(shard) for shard in range(get_spec(job).shards)]
    totals: dict[str, float] = {}
    for name in names:
        note = read_json(sidecar_path(job.folder / name), "run again to make the shard anew")
        for field, value in note["counts"].items():
            totals[field] = totals.get(field, 0) + value
    return job.build_manifest(names, compute_bank_facts(totals))


def compute_bank_facts(totals: dict[str, float]) -> dict:
    """A bank's facts: counts, and shares in [0,1]; what was not measured is left out."""
    rows, found = totals["rows"], {"rows": int(totals["rows"])}
    if "clean_right" in totals:
        found["teacher_clean_accuracy"] = totals["clean_right"] / rows
    if "accepted" in totals:
        found |= {
            "accepted": int(totals["accepted"]),
            "acceptance": totals["accepted"] / rows,
        }
    if "flips" in totals:
        found |= {
            "token_flips": totals["flips"] / rows,
            "pixel_change": totals["change"] / rows,
        }
    if "moved" in totals:
        found["sample_change"] = totals["moved"] / rows
    if probed := totals.get("probed"):
        requantised = totals["probed_requantised"] / probed
        found["token_flips_requantised"] = requantised
        found["token_flips_beyond"] = totals["probed_flips"] / probed - requantised
    return found
