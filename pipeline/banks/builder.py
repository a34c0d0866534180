"""A bank's samples and teacher outputs, block by block (Zhou et al., NeurIPS 2023, Sec. 3.3).

This module is part of the stage `pipeline.stages.build_bank`: a change that moves numbers here must
raise REVISION there.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.banks import attack_start, generated, image_codec, pixel_attack, rejected
from pipeline.banks.launched import (
    STORED_TYPES,
    LaunchedBlock,
    LaunchedCounts,
    LaunchedFields,
    start_copies,
)
from pipeline.banks.networks import load_bank_discretizer, load_bank_teacher
from pipeline.banks.shards import IMAGE_SUFFIXES, Block, ShardLayout
from pipeline.config.sections.bank import BankSpec
from pipeline.config.specs import get_spec
from pipeline.core.devices.placement import copy_to_device
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
# Which samples are stored (B,) bool, what may be stored of each, counts; all still on the device.
LaunchedSamples = tuple[Tensor, LaunchedFields, LaunchedCounts]


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

    @cached_property
    def stored_types(self) -> dict[str, type | np.dtype]:
        """The types of stored fields; tokens have the smallest that holds every code."""
        if not self.spec.has_tokens:
            return STORED_TYPES
        return STORED_TYPES | {"tokens": np.min_scalar_type(len(self.discretizer.codebook) - 1)}

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

    def build_block(self, rows: range, is_first: bool) -> tuple[Block, dict]:
        """One block's arrays and counts on the host, as ``launch_block`` makes them."""
        return self.launch_block(rows, is_first).fetch()

    @torch.no_grad()
    def launch_block(self, rows: range, is_first: bool) -> LaunchedBlock:
        """One block on its way to the host, without outputs on views (``view_outputs``).

        The host waits for a GPU in two cases alone: before a JPEG is encoded, since the teacher
        sees the decoded one, and with `reject: keep`, since Q(x) or x is judged where a sample was
        refused. Flips by re-quantisation alone need one more encoder pass, so they are measured
        only on the first block of a shard.
        """
        spec, labels = self.spec, self.split.labels[rows.start : rows.stop]
        images = self.split.images[rows.start : rows.stop]
        x = scale_to_unit_range(copy_to_device(images, spec.device))
        y = copy_to_device(labels, spec.device)
        fields: LaunchedFields = {"row": np.arange(rows.start, rows.stop, dtype=np.int64)}
        fields["label"] = labels
        samples, counts = {}, {"rows": len(y)}
        if spec.has_samples:
            if "images" in self.job.inputs:
                kept, samples, more = self.take_generated(labels, y, rows)
            elif "discretizer" in self.job.inputs:
                kept, samples, more = self.make_samples(x, y, rows, is_first)
            else:
                kept, samples, more = self.attack_pixels(x, y, rows)
            fields["accepted"], counts = kept, counts | more
        if spec.views is None and "t_clean" in list_output_fields(spec):
            fields["t_clean"] = t_clean = self.teacher(x)
            counts["clean_right"] = (t_clean.argmax(1) == y).sum()
        block = LaunchedBlock(fields, samples, counts, spec.outputs, self.stored_types)
        return start_copies(block, spec.device)

    def make_samples(self, x: Tensor, y: Tensor, rows: range, is_first: bool) -> LaunchedSamples:
        """The samples of images x (B,C,H,W) with labels y (B,)."""
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
            "accepted": accepted.sum(),
            "flips": flips.sum(),
            "change": (scale_to_unit_range(judged[0]) - q).abs().flatten(1).mean(1).sum(),
        }
        if is_first and attack is not None:
            counts |= self.measure_requantisation(q, tokens, flips)
        return kept, self.list_sample_fields(judged, attacked_tokens, flips), counts

    def attack_pixels(self, x: Tensor, y: Tensor, rows: range) -> LaunchedSamples:
        """PGD's samples around images x (B,C,H,W) with labels y (B,)."""
        start, attack = self.draw_start(x, rows), self.spec.attack
        networks = self.teacher, self.attacked
        image = pixel_attack.attack_images(x, y, start, networks, self.threat_model, attack)
        judged = self.judge_images(image)
        accepted = judged[2].argmax(1) == y
        kept, judged = self.apply_filter(judged, accepted, x)
        moved = (scale_to_unit_range(judged[0]) - x).abs().flatten(1).mean(1)
        counts = {"accepted": accepted.sum(), "moved": moved.sum()}
        return kept, self.list_sample_fields(judged, *make_no_tokens(y)), counts

    def apply_filter(
        self, judged: JudgedImages, accepted: Tensor, origin: Tensor
    ) -> tuple[Tensor, JudgedImages]:
        """Which samples are stored (B,), and all of them; `keep` puts ``origin`` for a rejected.

        `keep` waits for the device to know how many it judges again.
        """
        if self.spec.reject == "drop":
            return accepted, judged
        if self.spec.reject == "keep" and self.spec.attack is not None:
            refused = (~accepted).nonzero().flatten()
            if len(refused):
                again = self.judge_images(origin[refused])
                judged = rejected.replace_rejected(judged, refused, again)
        return torch.ones_like(accepted), judged

    def take_generated(self, labels: Tensor, y: Tensor, rows: range) -> LaunchedSamples:
        """Generated images of the labels (B,), given on the host and, as y, on the device."""
        chosen = generated.choose_images(self.generated, labels.tolist(), rows, self.spec.seed)
        judged = self.judge_images(scale_to_unit_range(copy_to_device(chosen, self.spec.device)))
        accepted = judged[2].argmax(1) == y
        fields = self.list_sample_fields(judged, *make_no_tokens(y))
        return accepted, fields, {"accepted": accepted.sum()}

    def measure_requantisation(self, q: Tensor, tokens: Tensor, flips: Tensor) -> LaunchedCounts:
        """Counts of the flips by re-quantising Q(x) alone, and of those with the attack."""
        requantised = compute_flip_share(self.discretizer.encode_to_tokens(q), tokens)
        return {
            "probed": len(q),
            "probed_requantised": requantised.sum(),
            "probed_flips": flips.sum(),
        }

    def judge_images(self, image: Tensor) -> JudgedImages:
        """Images (B,C,H,W) as readers will get them, and the teacher's outputs on them."""
        images, files = (image * 255).round().to(torch.uint8), None
        form = self.spec.encoding
        if form == "jpeg":  # the teacher sees what is stored; a PNG is made when it is written
            files = image_codec.encode_images(images, form, self.spec.quality)
            images = copy_to_device(image_codec.decode_images(files), image.device)
        return images, files, self.teacher(scale_to_unit_range(images))

    def list_sample_fields(
        self, judged: JudgedImages, tokens: Tensor, flips: Tensor
    ) -> LaunchedFields:
        """What may be stored of all B samples, kept or not."""
        spec, (images, files, outputs) = self.spec, judged
        fields: LaunchedFields = {"x_adv": images, "flips": flips}
        if files is not None:
            fields[FILES_FIELD] = files
        if spec.has_tokens:
            fields["tokens"] = tokens
        if spec.views is not None:
            return fields | {"predicted": outputs.argmax(1)}
        return fields | {"t_adv": outputs}


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
