"""A bank's networks: frozen, on its device, in the form that its spec asks for.

This module is part of the stage `pipeline.stages.build_bank`: a change that moves numbers here must
raise REVISION there.
"""

from torch import nn

from pipeline.config.sections.bank import BankSpec
from pipeline.config.specs import get_spec
from pipeline.models import vqgan
from pipeline.models.classifier import MODEL_FILE
from pipeline.models.frozen_forms import InBfloat16, fold_batchnorms
from pipeline.models.loading import load_teacher
from pipeline.store.artefact import Job, open_artefact


def load_bank_teacher(job: Job, role: str = "teacher") -> nn.Module:
    """The frozen classifier of a role: the teacher, or that which samples are made against."""
    spec: BankSpec = get_spec(job)
    return form_teacher(load_teacher(job.inputs[role], spec.device), spec)


def load_bank_discretizer(job: Job) -> vqgan.VQGAN:
    """The frozen discretizer Q."""
    spec: BankSpec = get_spec(job)
    path = open_artefact(job.inputs["discretizer"]).get_verified_path(MODEL_FILE)
    return form_discretizer(vqgan.load(path).to(spec.device).requires_grad_(False), spec)


def form_teacher(teacher: nn.Module, spec: BankSpec) -> nn.Module:
    """The teacher, folded or in bf16 where the spec says so."""
    if spec.teacher_form == "folded":
        teacher, _ = fold_batchnorms(teacher, "the teacher")
    return InBfloat16(teacher) if spec.bf16 else teacher


def form_discretizer(discretizer: vqgan.VQGAN, spec: BankSpec) -> vqgan.VQGAN:
    """Q, its encoder and decoder in bf16 where the spec says so.

    Latents are compared with the codes in single precision.
    """
    if spec.bf16:
        discretizer.encoder = InBfloat16(discretizer.encoder)
        discretizer.decoder = InBfloat16(discretizer.decoder)
    return discretizer
