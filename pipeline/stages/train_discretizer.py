"""Stage: a discretizer, trained on a data set (DAD, Sec. 3.1; Esser et al., CVPR 2021)."""

import torch

from pipeline.config.sections.discretizer import VqganShape
from pipeline.config.specs import get_spec
from pipeline.core.batch import Roles
from pipeline.data.dataset_artefact import open_dataset
from pipeline.models.classifier import MODEL_FILE
from pipeline.models.vqgan import VQGAN, ReconstructionObjective, VQGANArchitecture, save
from pipeline.stages import pretrained_discretizer
from pipeline.stages.vqgan_quality import measure_quality
from pipeline.store.artefact import Job, Manifest, write_atomically
from pipeline.training import vqgan_training
from pipeline.training.job_setup import HISTORY_FILE, make_checkpoint_settings, make_dataset_source
from pipeline.training.loop import fit, write_history

REVISION = 1

BATCH_SIZE = 250  # images at once when the finished discretizer is measured


def run(job: Job) -> Manifest:
    """Train or load the discretizer that the spec describes, measure it and save it."""
    spec = get_spec(job)
    if spec.checkpoint is not None:
        return pretrained_discretizer.load_checkpoint(job)
    recipe, data = spec.recipe, open_dataset(job.inputs["dataset"])
    fields = {name: getattr(spec, name) for name in VqganShape.model_fields}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model = VQGAN(
            VQGANArchitecture(**fields, resolution=data.shape[1], in_channels=data.shape[0])
        )
    roles = Roles(model.to(spec.device))
    objective = ReconstructionObjective(spec.n_codes)
    if spec.perceptual is not None or spec.adversarial is not None:
        objective = vqgan_training.make_vqgan_objective(job, objective, data.shape[0])
    objective = objective.to(spec.device)
    history = fit(
        roles,
        objective,
        make_dataset_source(job, data, recipe),
        recipe,
        make_checkpoint_settings(job),
    ).history
    with write_atomically(job.folder / MODEL_FILE) as temporary:
        save(model, temporary)
    write_history(job.folder / HISTORY_FILE, history)
    facts = measure_quality(model, data.read_split("test").images, spec.device, BATCH_SIZE)
    return job.build_manifest([MODEL_FILE, HISTORY_FILE], facts)
