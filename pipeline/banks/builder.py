"""A bank's samples and teacher outputs, block by block (Zhou et al., NeurIPS 2023, Sec. 3.3).

Whoever changes numbers here raises REVISION in `pipeline.stages.build_bank`, whose part this is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.banks import image_codec, rejected
from pipeline.banks.shards import PICTURES, Block, Layout
from pipeline.banks.stored_views import Side, Views
from pipeline.config.sections.bank import BankSpec
from pipeline.config.specs import spec_of
from pipeline.core import topk_logits
from pipeline.core.images import pixels
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import ascend, frozen
from pipeline.core.seeding import generator
from pipeline.core.threat_models import L2, Linf
from pipeline.data.dataset_artifact import open_data
from pipeline.data.splits import Split
from pipeline.models import vqgan
from pipeline.models.classifier import MODEL
from pipeline.models.loading import load_teacher
from pipeline.store.artifact import Job, open_artifact

FILES = "files"  # a block's pictures until it is written


# Images (B,C,H,W) uint8 as they are read back, their files if any, the teacher's outputs on them.
Shown = tuple[Tensor, list[bytes] | None, Tensor]


@dataclass(frozen=True)
class Maker:
    """Everything a block is computed from. Models load when the first block needs them."""

    job: Job

    @cached_property
    def spec(self) -> BankSpec:
        """The bank's own."""
        return spec_of(self.job)

    @cached_property
    def split(self) -> Split:
        """The training split, the bank's source rows."""
        return open_data(self.job.inputs["dataset"]).split("train")

    @cached_property
    def teacher(self) -> nn.Module:
        """The teacher, frozen."""
        return load_teacher(self.job.inputs["teacher"], self.spec.device)

    @cached_property
    def quantiser(self) -> vqgan.VQGAN:
        """Q, frozen."""
        path = open_artifact(self.job.inputs["discretizer"]).path(MODEL)
        return vqgan.load(path).to(self.spec.device).requires_grad_(False)

    @cached_property
    def layout(self) -> Layout:
        """How the rows fall into shards."""
        return Layout(len(self.split.labels), self.spec.shards, self.spec.block)

    @property
    def ball(self) -> L2 | Linf:
        """The threat model around Q(x)."""
        attack = self.spec.attack
        return {"l2": L2, "linf": Linf}[attack.norm](attack.eps)

    def start(self, q: Tensor, rows: range) -> Tensor:
        """First iterates (B,C,H,W): noise in the ball with the start probability.

        Every row draws from its own seed, so that a bank does not depend on how it was batched.
        """
        attack, ball = self.spec.attack, self.ball
        starts = []
        for image, row in zip(q, rows, strict=True):
            rng = generator(self.spec.seed, "bank", row)
            noisy = torch.rand((), generator=rng).item() < attack.start_probability
            image = image.unsqueeze(0).cpu()
            starts.append(ball.sample(image, rng) if noisy else image)
        return torch.cat(starts).to(q.device)

    def attacked(self, q: Tensor, y: Tensor, rows: range) -> Tensor:
        """Q(x) + delta (B,C,H,W): ascent on the teacher's cross-entropy in pixel space."""
        attack, ste = self.spec.attack, self.spec.attack.grad_path == "ste"

        def loss(z: Tensor) -> Tensor:
            return cross_entropy(self.teacher(self.quantiser(z) if ste else z), y)

        with frozen(self.teacher, self.quantiser):
            return ascend(
                q,
                loss,
                self.ball,
                steps=attack.steps,
                step=attack.step,
                start=self.start(q, rows),
            )

    @torch.no_grad()
    def block(self, rows: range, first: bool) -> tuple[Block, dict]:
        """One block's fields and counts; outputs on views are added when the shard is there.

        What plain re-quantisation flips costs an encoder pass more and is measured on first
        blocks alone.
        """
        spec = self.spec
        x = pixels(self.split.images[rows.start : rows.stop].to(spec.device))
        y = self.split.labels[rows.start : rows.stop].to(spec.device)
        block: Block = {
            "row": np.arange(rows.start, rows.stop, dtype=np.int64),
            "label": y.cpu().numpy().astype(np.int16),
        }
        counts: dict[str, float] = {"rows": len(y)}
        if spec.has_samples:
            samples, more = self.samples(x, y, rows, first)
            block, counts = block | samples, counts | more
        if spec.views is None and "t_clean" in whose_outputs(spec):
            t_clean = self.teacher(x)
            block |= self.output("t_clean", t_clean)
            counts["clean_right"] = int((t_clean.argmax(1) == y).sum())
        return block, counts

    def samples(self, x: Tensor, y: Tensor, rows: range, first: bool) -> tuple[Block, dict]:
        """Fields and counts of the samples of images x (B,C,H,W) with labels y (B,)."""
        attack, keep = self.spec.attack, self.spec.reject == "keep"
        tokens = self.quantiser.tokens(x)
        q = self.quantiser.decode_tokens(tokens)
        moved, image = tokens, q
        if attack is not None:
            moved = self.quantiser.tokens(self.attacked(q, y, rows))
            image = self.quantiser.decode_tokens(moved)
        flips, shown = share_flipped(moved, tokens), self.shown(image)
        kept = accepted = shown[2].argmax(1) == y
        if keep:
            kept, refused = torch.ones_like(accepted), (~accepted).nonzero().flatten()
            if attack is not None and len(refused):
                shown = rejected.replaced(shown, refused, self.shown(q[refused]))
                moved = torch.where(accepted.view(-1, 1, 1), moved, tokens)
        counts = {
            "accepted": int(accepted.sum()),
            "flips": float(flips.sum()),
            "change": float((pixels(shown[0]) - q).abs().flatten(1).mean(1).sum()),
        }
        if first and attack is not None:
            counts |= self.probe(q, tokens, flips)
        return self.sample_fields(kept, shown, moved, flips), counts

    def probe(self, q: Tensor, tokens: Tensor, flips: Tensor) -> dict:
        """Counts of what re-quantising Q(x) flips by itself, beside what the attack flipped."""
        requantised = share_flipped(self.quantiser.tokens(q), tokens)
        return {
            "probed": len(q),
            "probed_requantised": float(requantised.sum()),
            "probed_flips": float(flips.sum()),
        }

    def shown(self, image: Tensor) -> Shown:
        """Images (B,C,H,W) as they will be read back, and what the teacher says of those."""
        images, files = (image * 255).round().to(torch.uint8), None
        form = self.spec.encoding
        if form in PICTURES:
            files = [image_codec.encoded(one, form, self.spec.quality) for one in images]
            if form == "jpeg":
                images = image_codec.decoded_all(files).to(image.device)
        return images, files, self.teacher(pixels(images))

    def sample_fields(self, kept: Tensor, shown: Shown, tokens: Tensor, flips: Tensor) -> Block:
        """The arrays of the kept samples."""
        spec, (images, files, outputs) = self.spec, shown
        block: Block = {"accepted": kept.cpu().numpy(), "x_adv": images[kept].cpu().numpy()}
        block["flips"] = flips[kept].cpu().numpy().astype(np.float16)
        if files is not None:
            block[FILES] = [files[i] for i in kept.nonzero().flatten().tolist()]
        if spec.has_tokens:
            kind = np.min_scalar_type(len(self.quantiser.codebook) - 1)
            block["tokens"] = tokens[kept].cpu().numpy().astype(kind)
        if spec.views is not None:
            block["predicted"] = outputs[kept].argmax(1).cpu().numpy().astype(np.int16)
            return block
        return block | self.output("t_adv", outputs[kept])

    def output(self, name: str, logits: Tensor) -> Block:
        """Arrays of outputs (...,K) as the spec wants them: fp16, or their top k."""
        how = self.spec.outputs
        if not how.top_k:
            return {name: logits.cpu().numpy().astype(np.float16)}
        parts = topk_logits.packed(logits, how.top_k, how.temperature)
        return {f"{name}_{part}": array for part, array in parts.items()}

    @torch.no_grad()
    def with_views(self, made: list[tuple[int, Block, dict]]) -> Iterator[tuple[int, Block, dict]]:
        """A whole shard's blocks with the teacher's outputs on every view of theirs."""
        spec = self.spec
        views, sides = Views.of(spec), {}
        rows = np.concatenate([block["row"] for _, block, _ in made])
        if "t_clean" in whose_outputs(spec):
            images = self.split.images[int(rows[0]) : int(rows[-1]) + 1].to(spec.device)
            sides["t_clean"] = Side(images, rows, np.array([0, len(rows)])), "row"
        if spec.has_samples:
            images = np.concatenate([block["x_adv"] for _, block, _ in made])
            own = rows[np.concatenate([block["accepted"] for _, block, _ in made])]
            images = torch.from_numpy(images).to(spec.device)
            sides["t_adv"] = Side(images, own, np.array([0, len(own)])), "x_adv"
        done = dict.fromkeys(sides, 0)
        for number, block, counts in made:
            for name, (side, counted) in sides.items():
                index = torch.arange(done[name], done[name] + len(block[counted]))
                block |= self.output(name, self.over_views(views, side, index))
                done[name] += len(index)
            yield number, block, counts

    def over_views(self, views: Views, side: Side, index: Tensor) -> Tensor:
        """The teacher's logits (B,V,K) on every view of some samples of a side."""
        shown = (views.images(side, index, view)[0] for view in range(views.count))
        return torch.stack([self.teacher(pixels(images)) for images in shown], 1)


def whose_outputs(spec: BankSpec) -> tuple[str, ...]:
    """The outputs that a bank's spec stores, in whatever form."""
    clean = ("t_clean",) if spec.outputs.clean else ()
    return clean + (("t_adv",) if spec.has_samples else ())


def as_written(block: Block, spec: BankSpec) -> Block:
    """A block without what its spec does not store; files in the place of pixels."""
    block = dict(block)
    if spec.encoding in PICTURES:
        block["x_adv"] = block.pop(FILES)
    if spec.encoding == "tokens":
        del block["x_adv"]
    if spec.views is not None:
        block["row"] = block["row"].astype(np.int32)
    return block


def share_flipped(tokens: Tensor, reference: Tensor) -> Tensor:
    """Share of tokens (B,) that differ between two grids (B,h,w)."""
    return (tokens != reference).flatten(1).float().mean(1)
