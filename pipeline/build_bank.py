"""Stage: a bank of discretised adversarial samples (DAD, Sec. 3.3; METHODS: bank generation)."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import discretizer
from pipeline.artifact import Job, Manifest, open_artifact, read_json
from pipeline.ascent import ascend, frozen
from pipeline.bank import Block, Layout, shard_name, sidecar_of, whole, write_shard
from pipeline.data import Split, open_data
from pipeline.errors import RetortError
from pipeline.lease import leased
from pipeline.losses import cross_entropy
from pipeline.rng import generator
from pipeline.signals import Wish, stoppable
from pipeline.source import pixels
from pipeline.threat import L2, Linf
from pipeline.training import MODEL, load_teacher

REVISION = 1

log = logging.getLogger("retort")


@dataclass(frozen=True)
class Maker:
    """Everything a block is computed from. Models load when the first block needs them."""

    job: Job

    @cached_property
    def split(self) -> Split:
        """The training split, the bank's source rows."""
        return open_data(self.job.inputs["dataset"]).split("train")

    @cached_property
    def teacher(self) -> nn.Module:
        """The teacher, frozen."""
        return load_teacher(self.job.inputs["teacher"], self.job.spec["device"])

    @cached_property
    def quantiser(self) -> discretizer.VQGAN:
        """Q, frozen."""
        path = open_artifact(self.job.inputs["discretizer"]).path(MODEL)
        return discretizer.load(path).to(self.job.spec["device"]).requires_grad_(False)

    @cached_property
    def layout(self) -> Layout:
        """How the rows fall into shards."""
        spec = self.job.spec
        return Layout(len(self.split.labels), spec["shards"], spec["block"])

    @property
    def ball(self) -> L2 | Linf:
        """The threat model around Q(x)."""
        attack = self.job.spec["attack"]
        return {"l2": L2, "linf": Linf}[attack["norm"]](attack["eps"])

    def start(self, q: Tensor, rows: range) -> Tensor:
        """First iterates (B,C,H,W): noise in the ball with the start probability.

        Every row draws from its own seed, so that a bank does not depend on how it was batched.
        """
        attack, ball = self.job.spec["attack"], self.ball
        starts = []
        for image, row in zip(q, rows, strict=True):
            rng = generator(self.job.spec["seed"], "bank", row)
            noisy = torch.rand((), generator=rng).item() < attack["start_probability"]
            image = image.unsqueeze(0).cpu()
            starts.append(ball.sample(image, rng) if noisy else image)
        return torch.cat(starts).to(q.device)

    def attacked(self, q: Tensor, y: Tensor, rows: range) -> Tensor:
        """Q(x) + delta (B,C,H,W): ascent on the teacher's cross-entropy in pixel space."""
        attack, ste = self.job.spec["attack"], self.job.spec["attack"]["grad_path"] == "ste"

        def loss(z: Tensor) -> Tensor:
            return cross_entropy(self.teacher(self.quantiser(z) if ste else z), y)

        with frozen(self.teacher, self.quantiser):
            return ascend(
                q,
                loss,
                self.ball,
                steps=attack["steps"],
                step=attack["step"],
                start=self.start(q, rows),
            )

    @torch.no_grad()
    def block(self, rows: range, first: bool) -> tuple[Block, dict]:
        """One block's fields and counts.

        The teacher judges the image as it will be read back, rounded to 8 bits. What plain
        re-quantisation flips costs an encoder pass more and is measured on first blocks alone.
        """
        device = self.job.spec["device"]
        x = pixels(self.split.images[rows.start : rows.stop].to(device))
        y = self.split.labels[rows.start : rows.stop].to(device)
        tokens = self.quantiser.tokens(x)
        q = self.quantiser.decode_tokens(tokens)
        moved = self.quantiser.tokens(self.attacked(q, y, rows))
        stored = (self.quantiser.decode_tokens(moved) * 255).round().to(torch.uint8)
        t_clean, t_adv = self.teacher(x), self.teacher(pixels(stored))
        accepted = t_adv.argmax(1) == y
        if self.job.spec["reject"] == "keep":
            plain = (q * 255).round().to(torch.uint8)
            stored = torch.where(accepted.view(-1, 1, 1, 1), stored, plain)
            t_adv = torch.where(accepted.view(-1, 1), t_adv, self.teacher(pixels(stored)))
        flips = share_flipped(moved, tokens)
        counts = {
            "rows": len(y),
            "accepted": int(accepted.sum()),
            "clean_right": int((t_clean.argmax(1) == y).sum()),
            "flips": float(flips.sum()),
            "change": float((pixels(stored) - q).abs().flatten(1).mean(1).sum()),
        }
        if first:
            requantised = share_flipped(self.quantiser.tokens(q), tokens)
            counts |= {
                "probed": len(y),
                "probed_requantised": float(requantised.sum()),
                "probed_flips": float(flips.sum()),
            }
        kept = torch.ones_like(accepted) if self.job.spec["reject"] == "keep" else accepted
        return fields(rows, y, kept, t_clean, stored, t_adv, flips), counts


def share_flipped(tokens: Tensor, reference: Tensor) -> Tensor:
    """Share of tokens (B,) that differ between two grids (B,h,w)."""
    return (tokens != reference).flatten(1).float().mean(1)


def fields(
    rows: range, y: Tensor, kept: Tensor, t_clean: Tensor, x: Tensor, t_adv: Tensor, flips: Tensor
) -> Block:
    """A block's arrays under their declared names and types."""
    return {
        "row": np.arange(rows.start, rows.stop, dtype=np.int64),
        "label": y.cpu().numpy().astype(np.int16),
        "accepted": kept.cpu().numpy(),
        "t_clean": t_clean.cpu().numpy().astype(np.float16),
        "x_adv": x[kept].cpu().numpy(),
        "t_adv": t_adv[kept].cpu().numpy().astype(np.float16),
        "flips": flips[kept].cpu().numpy().astype(np.float16),
    }


def run_group(job: Job, shards: range) -> None:
    """Make the missing or altered shards of a range; whole ones are left alone.

    Raises:
        RetortError: the range is not of this bank.
        SystemExit: the process was asked to stop; finished shards stay.
    """
    if not 0 <= shards.start < shards.stop <= job.spec["shards"]:
        raise RetortError(
            f"--shards {shards.start}:{shards.stop}: the bank has {job.spec['shards']} shards; "
            f"give a range within 0:{job.spec['shards']}"
        )
    maker = Maker(job)
    for shard in shards:
        path = job.folder / shard_name(shard)
        with leased(job.folder, sidecar_of(path), path.stem), stoppable() as wish:
            if not whole(path):
                make_shard(maker, shard, wish)


def make_shard(maker: Maker, shard: int, wish: Wish) -> None:
    """Compute and write one shard."""
    path = maker.job.folder / shard_name(shard)
    sidecar_of(path).unlink(missing_ok=True)
    counts = write_shard(path, blocks(maker, shard, wish))["counts"]
    share = counts["accepted"] / counts["rows"]
    log.info("shard %d: %d rows, %.1f %% accepted", shard, counts["rows"], 100 * share)


def blocks(maker: Maker, shard: int, wish: Wish) -> Iterator[tuple[int, Block, dict]]:
    """The blocks of a shard, one after the other, until the process is asked to stop."""
    numbers = maker.layout.blocks_of(shard)
    for number in numbers:
        if wish:
            log.info("asked to stop: shard %d is left for the next run", shard)
            raise SystemExit(128 + wish.signal)
        yield number, *maker.block(maker.layout.rows_of(number), number == numbers.start)


def run(job: Job) -> Manifest:
    """Make what is missing, then the manifest over all shards."""
    run_group(job, range(job.spec["shards"]))
    names = [shard_name(shard) for shard in range(job.spec["shards"])]
    totals: dict[str, float] = {}
    for name in names:
        note = read_json(sidecar_of(job.folder / name), "run again to make the shard anew")
        for field, value in note["counts"].items():
            totals[field] = totals.get(field, 0) + value
    return job.manifest(names, rates(totals))


def rates(totals: dict[str, float]) -> dict:
    """A bank's facts: counts, and shares in [0,1]."""
    rows, probed = totals["rows"], totals["probed"]
    requantised = totals["probed_requantised"] / probed
    return {
        "rows": int(rows),
        "accepted": int(totals["accepted"]),
        "acceptance": totals["accepted"] / rows,
        "teacher_clean_accuracy": totals["clean_right"] / rows,
        "token_flips": totals["flips"] / rows,
        "token_flips_requantised": requantised,
        "token_flips_beyond": totals["probed_flips"] / probed - requantised,
        "pixel_change": totals["change"] / rows,
    }
