"""The inputs of an objective: one batch, and the models by their roles."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.contracts.values import describe_bad_terms, iterate_terms
from pipeline.core.devices.ascent_graph import AscentGraphs
from pipeline.discovery import describe_plugin
from pipeline.errors import RetortError

REVISION = 1

NEED_DESCRIPTIONS = {
    "teacher": "exactly one teacher",
    "label": "labels (a data set)",
    "generated": "a generator",
    "t_clean": "a teacher, or a bank of its outputs",
    "x_adv": "a bank of adversarial samples",
    "y_adv": "a bank of adversarial samples",
    "t_adv": "a bank, and its teacher's outputs",
    "paired": "a bank whose samples are read beside their own images",
    "mixed_together": "a bank's samples that Mixup may mix with clean images, not mixed views",
    "discretizer": "a discretizer",
    "natural": "a teacher in the role 'natural'",
    "robust": "a teacher in the role 'robust'",
}
Terms = dict[str, Tensor]  # each (B,), already weighted


@dataclass(frozen=True)
class Batch:
    """One training step's data.

    Attributes:
        x: images (B,C,H,W) in [0,1].
        y: labels (B,) int64, or distributions (B,K); None when data-free or of other classes.
        index: rows of the source data set (B,) int64.
        stored: bank fields, e.g. x_adv (B,C,H,W), y_adv (labels of its source rows, in the form of
            y), t_clean (B,K), t_adv (B,K). Row i of x_adv comes from row i of x only if the
            objective needs "paired".
        progress: the share of training done: 0 at the first step, close to 1 at the last.
        epoch: counted from 0.
        rng: this step's own generator, seeded by (seed, epoch, step).
        attack_dtype: dtype of the autocast in attacks on this batch; None runs them without.
        ascents: captures and repeats the inner attack's ascent; None runs it eagerly.
        made: takes the images x* (B,C,H,W) that the objective's inner attack makes; None forgets
            them.
    """

    x: Tensor
    y: Tensor | None
    index: Tensor
    stored: Mapping[str, Tensor]
    progress: float
    epoch: int
    rng: torch.Generator
    attack_dtype: torch.dtype | None = None
    ascents: AscentGraphs | None = None
    made: list[Tensor] | None = None

    @property
    def labels(self) -> Tensor:
        """The labels y, for objectives that need them.

        Raises:
            ValueError: the batch has none.
        """
        if self.y is None:
            raise ValueError("batch: it has no labels; list 'label' among the objective's needs")
        return self.y

    def note_made(self, x_adv: Tensor) -> Tensor:
        """x* (B,C,H,W), which ``made`` takes if it is there."""
        if self.made is not None:
            self.made.append(x_adv)
        return x_adv

    @property
    def hard_labels(self) -> Tensor:
        """The class (B,) of each label: of a mixed one, that with the largest share."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)


class Discretizer(Protocol):
    """Q: images through a codebook and back."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """Q(x) (B,C,H,W) in [0,1] of images x (B,C,H,W)."""


@dataclass(frozen=True)
class Roles:
    """The models of a step: the student is trained, the others are frozen and in eval mode.

    A teacher whose role the objective's ``trains()`` names trains too, in train mode.
    ``discretizer`` is Q, for objectives that discretise samples themselves (DAT).
    """

    student: nn.Module
    teachers: Mapping[str, nn.Module] = field(default_factory=dict)
    discretizer: Discretizer | None = None

    @property
    def teacher(self) -> nn.Module:
        """The only teacher, whatever its role."""
        (teacher,) = self.teachers.values()
        return teacher


@dataclass(frozen=True)
class TrainedRole:
    """A teacher that trains beside the student, by an SGD of its own on the objective's terms.

    It learns what reaches it: an objective detaches the outputs that only the student shall learn.
    It is in train mode from the first step on, also before it learns.

    Attributes:
        role: the teacher's role, one that the objective needs.
        lr: learning rate at the start; it falls to 0 along a cosine until training ends.
        momentum: of its SGD.
        weight_decay: of its SGD.
        start: share of training before which its weights stay.
    """

    role: str
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    start: float = 0.0


def find_trained_roles(method: Any) -> tuple[TrainedRole, ...]:
    """The teachers that a method trains beside the student: its ``trains()``, or none.

    Raises:
        RetortError: it gives anything but a tuple of them; the message names its file.
    """
    found = method.trains() if hasattr(method, "trains") else ()
    if not isinstance(found, tuple) or not all(isinstance(one, TrainedRole) for one in found):
        raise RetortError(f"{describe_plugin(method)}: trains() gives no tuple of TrainedRole")
    return found


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """A batch cut into equal parts along its samples; they share the step's randomness."""
    if parts == 1:
        return [batch]
    size = len(batch.x) // parts

    def slice_samples(value: Tensor, start: int) -> Tensor:
        return value[start : start + size]

    return [
        replace(
            batch,
            x=slice_samples(batch.x, start),
            y=None if batch.y is None else slice_samples(batch.y, start),
            index=slice_samples(batch.index, start),
            stored={name: slice_samples(value, start) for name, value in batch.stored.items()},
        )
        for start in range(0, parts * size, size)
    ]


def compute_terms(objective: Any, roles: Roles, batch: Batch) -> Iterator[Terms]:
    """The terms that an objective yields on a batch, one dict after the other.

    Raises:
        RetortError: it yields anything but dicts of (B,) tensors; the message names its file.
    """
    for terms, fault in iterate_terms(objective(roles, batch), len(batch.x)):
        if fault:
            raise RetortError(f"{describe_plugin(objective)}: {fault}")
        yield terms


def check_terms(loss: object, terms: Terms, count: int) -> Terms:
    """The terms of a generator's loss on ``count`` images.

    Raises:
        RetortError: it returns anything but a dict of (B,) tensors; the message names its file.
    """
    if fault := describe_bad_terms(terms, count):
        raise RetortError(f"{describe_plugin(loss)}: {fault}")
    return terms


def needs_whole_batch(method: object) -> bool:
    """Whether an update would change if the batch were split into parts, one after the other.

    A method sets ``needs_whole_batch`` to the reason, or to True, if a term of one sample depends
    on other samples, or if it draws or moves something once per update. For all others the terms
    and gradients of the parts are those of the batch, given the same start noise. Shares of
    several processes are not such parts: processes exchange what the method needs
    (`core/collectives`). BatchNorm does not count.
    """
    return bool(getattr(method, "needs_whole_batch", False))


def explain_whole_batch(method: object) -> str:
    """Why a method needs undivided batches; empty where it does not, or does not say."""
    reason = getattr(method, "needs_whole_batch", "")
    return reason if isinstance(reason, str) else ""


def get_clean_teacher_logits(roles: Roles, batch: Batch) -> Tensor:
    """Teacher logits on the clean images (B,K): from the bank if stored, else one forward."""
    if "t_clean" in batch.stored:
        return batch.stored["t_clean"]
    with torch.no_grad():
        return roles.teacher(batch.x)


def get_adversarial_teacher_logits(roles: Roles, batch: Batch) -> Tensor:
    """Teacher logits on the bank's images (B,K): from the bank if stored, else one forward."""
    if "t_adv" in batch.stored:
        return batch.stored["t_adv"]
    with torch.no_grad():
        return roles.teacher(batch.stored["x_adv"])


def describe_missing_needs(
    needs: tuple[str, ...], teacher_roles: Iterable[str], available: Iterable[str]
) -> str:
    """The unmet needs of an objective, in words; empty if all are met.

    Needs are names of teacher roles, "teacher" (exactly one, whatever its role), "label",
    "generated" (a generator's images), "paired", "mixed_together", "discretizer", or stored fields.
    Teacher outputs t_clean and t_adv may also come from a live teacher.
    """
    teacher_roles, available = set(teacher_roles), set(available)
    satisfied = teacher_roles | available
    if len(teacher_roles) == 1:
        satisfied |= {"teacher", "t_clean"}
        satisfied |= {"t_adv"} if "x_adv" in available else set()
    return ", ".join(
        NEED_DESCRIPTIONS.get(need, f"'{need}'") for need in needs if need not in satisfied
    )
