"""A stand-in for CRDND, whose equations are not public (DARWIN, CVPR 2025, Table 1)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.collectives import all_gather, take_own_rows
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_examples_against,
)
from pipeline.core.losses import kl_divergence, pairwise_cosine_similarity, softmax_entropy
from pipeline.objectives.rslad import compute_soft_label_terms

REVISION = 2
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.objectives.rslad",
)


@dataclass(frozen=True)
class Objective:
    """An approximation: RSLAD on a denoised target, plus a KL of the samples' relations.

    kd_scale (alpha KL(D(x)||S(x*)) + (1-alpha) KL(D(x)||S(x))) + beta KL(R_T(x) || R_S(x*)). D is
    the teacher's output with its logits times 1 + sharpen H / log C, H its entropy. R is the
    softmax, over the other samples, of the logits' cosines divided by ``relation_temperature``.
    x* = argmax KL(D(x) || S(x')); no labels.

    Attributes:
        alpha: weight of the term on x*; the term on x has the rest.
        beta: weight of the samples' relations.
        sharpen: how much an unsure teacher is sharpened.
        relation_temperature: number by which the cosines of samples are divided.
        kd_scale: factor of RSLAD's two terms.
    """

    inner_attack: InnerAttack = declare_attack_options()
    clean: CleanForward = declare_clean_forward()
    alpha: float = 5 / 6
    beta: float = 0.1
    sharpen: float = 1.0
    relation_temperature: float = 0.5
    kd_scale: float = 0.1
    needs_whole_batch: ClassVar[str] = "it compares each sample with the others"

    def needs(self) -> tuple[str, ...]:
        """The teacher's outputs on clean images."""
        return ("t_clean",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, raw, t = (
            roles.student,
            get_clean_teacher_logits(roles, batch),
            self.relation_temperature,
        )
        relative_entropy = softmax_entropy(raw) / math.log(raw.shape[1])
        target = raw * (1 + self.sharpen * relative_entropy)[:, None]
        x_adv = make_examples_against(self.inner_attack, batch, student, kl_divergence, target)
        logits = student(x_adv)
        relation_logits = (pairwise_cosine_similarity(all_gather(z)) / t for z in (logits, raw))
        relation = self.beta * take_own_rows(kl_divergence(*relation_logits))
        yield compute_soft_label_terms(self, student, batch.x, logits, target) | {
            "relation": relation
        }
