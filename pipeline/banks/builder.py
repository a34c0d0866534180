"""A bank's samples and teacher outputs, block by block (Zhou et al., NeurIPS 2023, Sec. 3.3).

This module is part of the stage `pipeline.stages.build_bank`: a change that moves numbers here must
raise REVISION there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.banks import attack_start, generated, image_codec, pixel_attack, rejected
from pipeline.banks.networks import load_bank_discretizer, load_bank_teacher
from pipeline.banks.shards import IMAGE_SUFFIXES, Block, ShardLayout
from pipeline.banks.stored_views import ImageSet, StoredViews
from pipeline.config.sections.bank import BankSpec
from pipeline.config.specs import get_spec
from pipeline.core import topk_logits
from pipeline.core.images import scale_to_unit_range
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.threat_models import L2, Linf
from pipeline.data.dataset_artefact import open_dataset
from pipeline.data.splits import Split
from pipeline.models import vqgan
from pipeline.store.artefact import Job

FILES_FIELD = "files"  # a block's encoded images until it is written


# Images (B,C,H,W) uint8 as readers get them, their files or None, the teacher's outputs on them.
JudgedImages = tuple[Tensor, list[bytes] | None, Tensor]


@dataclass(frozen=True)
class BankBuilder:
    """The computation of a bank's blocks; models are loaded when the first block needs them."""

    job: Job

    @cached_property
    def spec(self) -> BankSpec:
        """The spec of the bank."""
        return get_spec(self.job)

    @cached_property
    def split(self) -> Split:
        """The training split, the bank's source rows."""
        return open_dataset(self.job.inputs["dataset"]).read_split("train")

    @cached_property
    def teacher(self) -> nn.Module:
        """The frozen teacher."""
        return load_bank_teacher(self.job)

    @cached_property
    def discretizer(self) -> vqgan.VQGAN:
        """The frozen discretizer Q."""
        return load_bank_discretizer(self.job)

    @cached_property
    def attacked(self) -> nn.Module:
        """The frozen network that an attack in pixel space is made against."""
        if "against" not in self.job.inputs:
            return self.teacher
        return load_bank_teacher(self.job, "against")

    @cached_property
    def generated(self) -> Split:
        """The generated images that stand for samples."""
        return open_dataset(self.job.inputs["images"]).read_split("train")

    @cached_property
    def layout(self) -> ShardLayout:
        """The layout of the rows in shards."""
        return ShardLayout(len(self.split.labels), self.spec.shards, self.spec.block)

    @property
    def threat_model(self) -> L2 | Linf:
        """The threat model around Q(x), or around x without a discretizer."""
        attack = self.spec.attack
        return {"l2": L2, "linf": Linf}[attack.norm](attack.eps)

    def draw_start(self, q: Tensor, rows: range) -> Tensor:
        """First iterates (B,C,H,W) around q for these rows; see ``attack_start``."""
        spec = self.spec
        return attack_start.draw_start(
            q, rows, self.threat_model, spec.attack.start_probability, spec.seed
        )

    def attack_images(self, q: Tensor, y: Tensor, rows: range) -> Tensor:
        """Q(x) + delta (B,C,H,W) after PGD on the teacher's cross-entropy in pixel space."""
        attack, ste = self.spec.attack, self.spec.attack.grad_path == "ste"

        def compute_loss(z: Tensor) -> Tensor:
            return cross_entropy(self.teacher(self.discretizer(z) if ste else z), y)

        with freeze_modules(self.teacher, self.discretizer):
            return run_pgd(
                q,
                compute_loss,
                self.threat_model,
                steps=attack.steps,
                step_size=attack.step,
                start=self.draw_start(q, rows),
            )

    @torch.no_grad()
    def build_block(self, rows: range, is_first: bool) -> tuple[Block, dict]:
        """One block's fields and counts, without outputs on views (``add_view_outputs``).

        Flips by re-quantisation alone need one more encoder pass, so they are measured only on the
        first block of a shard.
        """
        spec = self.spec
        x = scale_to_unit_range(self.split.images[rows.start : rows.stop].to(spec.device))
        y = self.split.labels[rows.start : rows.stop].to(spec.device)
        block: Block = {
            "row": np.arange(rows.start, rows.stop, dtype=np.int64),
            "label": y.cpu().numpy().astype(np.int16),
        }
        counts: dict[str, float] = {"rows": len(y)}
        if spec.has_samples:
            if "images" in self.job.inputs:
                samples, more = self.take_generated(x, y, rows)
            elif "discretizer" in self.job.inputs:
                samples, more = self.make_samples(x, y, rows, is_first)
            else:
                samples, more = self.attack_pixels(x, y, rows)
            block, counts = block | samples, counts | more
        if spec.views is None and "t_clean" in list_output_fields(spec):
            t_clean = self.teacher(x)
            block |= self.encode_outputs("t_clean", t_clean)
            counts["clean_right"] = int((t_clean.argmax(1) == y).sum())
        return block, counts

    def make_samples(self, x: Tensor, y: Tensor, rows: range, is_first: bool) -> tuple[Block, dict]:
        """Fields and counts of the samples of images x (B,C,H,W) with labels y (B,)."""
        attack = self.spec.attack
        tokens = self.discretizer.encode_to_tokens(x)
        q = self.discretizer.decode_tokens(tokens)
        attacked_tokens, image = tokens, q
        if attack is not None:
            attacked_tokens = self.discretizer.encode_to_tokens(self.attack_images(q, y, rows))
            image = self.discretizer.decode_tokens(attacked_tokens)
        flips, judged = compute_flip_share(attacked_tokens, tokens), self.judge_images(image)
        accepted = judged[2].argmax(1) == y
        kept, judged = self.apply_filter(judged, accepted, q)
        if self.spec.reject == "keep":
            attacked_tokens = torch.where(accepted.view(-1, 1, 1), attacked_tokens, tokens)
        counts = {
            "accepted": int(accepted.sum()),
            "flips": float(flips.sum()),
            "change": float((scale_to_unit_range(judged[0]) - q).abs().flatten(1).mean(1).sum()),
        }
        if is_first and attack is not None:
            counts |= self.measure_requantisation(q, tokens, flips)
        return self.make_sample_fields(kept, judged, attacked_tokens, flips), counts

    def attack_pixels(self, x: Tensor, y: Tensor, rows: range) -> tuple[Block, dict]:
        """Fields and counts of PGD's samples around images x (B,C,H,W) with labels y (B,)."""
        start, attack = self.draw_start(x, rows), self.spec.attack
        networks = self.teacher, self.attacked
        image = pixel_attack.attack_images(x, y, start, networks, self.threat_model, attack)
        judged = self.judge_images(image)
        accepted = judged[2].argmax(1) == y
        kept, judged = self.apply_filter(judged, accepted, x)
        moved = (scale_to_unit_range(judged[0]) - x).abs().flatten(1).mean(1)
        counts = {"accepted": int(accepted.sum()), "moved": float(moved.sum())}
        return self.make_sample_fields(kept, judged, *make_no_tokens(y)), counts

    def apply_filter(
        self, judged: JudgedImages, accepted: Tensor, origin: Tensor
    ) -> tuple[Tensor, JudgedImages]:
        """Which samples are stored (B,), and all of them; `keep` puts ``origin`` for a rejected."""
        if self.spec.reject == "drop":
            return accepted, judged
        refused = (~accepted).nonzero().flatten()
        if self.spec.reject == "keep" and self.spec.attack is not None and len(refused):
            judged = rejected.replace_rejected(judged, refused, self.judge_images(origin[refused]))
        return torch.ones_like(accepted), judged

    def take_generated(self, x: Tensor, y: Tensor, rows: range) -> tuple[Block, dict]:
        """Fields and counts of generated images in place of images x (B,C,H,W) with labels y."""
        chosen = generated.choose_images(self.generated, y.tolist(), rows, self.spec.seed)
        judged = self.judge_images(scale_to_unit_range(chosen.to(self.spec.device)))
        accepted = judged[2].argmax(1) == y
        fields = self.make_sample_fields(accepted, judged, *make_no_tokens(y))
        return fields, {"accepted": int(accepted.sum())}

    def measure_requantisation(self, q: Tensor, tokens: Tensor, flips: Tensor) -> dict:
        """Counts of the flips by re-quantising Q(x) alone, and of those with the attack."""
        requantised = compute_flip_share(self.discretizer.encode_to_tokens(q), tokens)
        return {
            "probed": len(q),
            "probed_requantised": float(requantised.sum()),
            "probed_flips": float(flips.sum()),
        }

    def judge_images(self, image: Tensor) -> JudgedImages:
        """Images (B,C,H,W) as readers will get them, and the teacher's outputs on them."""
        images, files = (image * 255).round().to(torch.uint8), None
        form = self.spec.encoding
        if form == "jpeg":  # the teacher sees what is stored; a PNG is made when it is written
            files = image_codec.encode_images(images, form, self.spec.quality)
            images = image_codec.decode_images(files).to(image.device)
        return images, files, self.teacher(scale_to_unit_range(images))

    def make_sample_fields(
        self, kept: Tensor, judged: JudgedImages, tokens: Tensor, flips: Tensor
    ) -> Block:
        """The arrays of the kept samples."""
        spec, (images, files, outputs) = self.spec, judged
        block: Block = {"accepted": kept.cpu().numpy(), "x_adv": images[kept].cpu().numpy()}
        block["flips"] = flips[kept].cpu().numpy().astype(np.float16)
        if files is not None:
            block[FILES_FIELD] = [files[i] for i in kept.nonzero().flatten().tolist()]
        if spec.has_tokens:
            kind = np.min_scalar_type(len(self.discretizer.codebook) - 1)
            block["tokens"] = tokens[kept].cpu().numpy().astype(kind)
        if spec.views is not None:
            block["predicted"] = outputs[kept].argmax(1).cpu().numpy().astype(np.int16)
            return block
        return block | self.encode_outputs("t_adv", outputs[kept])

    def encode_outputs(self, name: str, logits: Tensor) -> Block:
        """Arrays of outputs (...,K) in the spec's form: fp16, or their top k."""
        output_settings = self.spec.outputs
        if not output_settings.top_k:
            return {name: logits.cpu().numpy().astype(np.float16)}
        parts = topk_logits.pack_logits(logits, output_settings.top_k, output_settings.temperature)
        return {f"{name}_{part}": array for part, array in parts.items()}

    @torch.no_grad()
    def add_view_outputs(
        self, numbered_blocks: list[tuple[int, Block, dict]]
    ) -> Iterator[tuple[int, Block, dict]]:
        """A complete shard's blocks with the teacher's outputs on all their views."""
        spec = self.spec
        views, image_sets = StoredViews.from_spec(spec), {}
        rows = np.concatenate([block["row"] for _, block, _ in numbered_blocks])
        if "t_clean" in list_output_fields(spec):
            images = self.split.images[int(rows[0]) : int(rows[-1]) + 1].to(spec.device)
            image_sets["t_clean"] = ImageSet(images, rows, np.array([0, len(rows)])), "row"
        if spec.has_samples:
            images = np.concatenate([block["x_adv"] for _, block, _ in numbered_blocks])
            own = rows[np.concatenate([block["accepted"] for _, block, _ in numbered_blocks])]
            images = torch.from_numpy(images).to(spec.device)
            image_sets["t_adv"] = ImageSet(images, own, np.array([0, len(own)])), "x_adv"
        done = dict.fromkeys(image_sets, 0)
        for number, block, counts in numbered_blocks:
            for name, (image_set, counted) in image_sets.items():
                index = torch.arange(done[name], done[name] + len(block[counted]))
                block |= self.encode_outputs(
                    name, self.compute_view_logits(views, image_set, index)
                )
                done[name] += len(index)
            yield number, block, counts

    def compute_view_logits(self, views: StoredViews, image_set: ImageSet, index: Tensor) -> Tensor:
        """The teacher's logits (B,V,K) on every view of the images at ``index``."""
        shown = (views.make_view(image_set, index, view)[0] for view in range(views.count))
        return torch.stack([self.teacher(scale_to_unit_range(images)) for images in shown], 1)


def make_no_tokens(y: Tensor) -> tuple[Tensor, Tensor]:
    """Empty tokens (B,0,0), which are not stored, and zero flips (B,) of undiscretised samples."""
    return torch.zeros(len(y), 0, 0), torch.zeros(len(y))


def list_output_fields(spec: BankSpec) -> tuple[str, ...]:
    """Names of the outputs that a bank stores, whatever their form."""
    clean = ("t_clean",) if spec.outputs.clean else ()
    return clean + (("t_adv",) if spec.has_samples else ())


def convert_to_stored_form(block: Block, spec: BankSpec) -> Block:
    """A block with only the fields that the spec stores, in their stored form."""
    block = dict(block)
    if spec.encoding in IMAGE_SUFFIXES:
        files, images = block.pop(FILES_FIELD, None), torch.from_numpy(block["x_adv"])
        if files is None:
            files = image_codec.encode_images(images, spec.encoding, spec.quality)
        block["x_adv"] = files
    if spec.encoding == "tokens":
        del block["x_adv"]
    if spec.views is not None:
        block["row"] = block["row"].astype(np.int32)
    return block


def compute_flip_share(tokens: Tensor, reference: Tensor) -> Tensor:
    """The share of tokens (B,) that differ between two grids (B,h,w)."""
    return (tokens != reference).flatten(1).float().mean(1)
