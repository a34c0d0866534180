"""Stage: a discretiser, trained on a data set (DAD, Sec. 3.1; Esser et al., CVPR 2021)."""

import torch

from pipeline.config.sections.discretizer import VqganShape
from pipeline.config.specs import spec_of
from pipeline.core.batch import Roles
from pipeline.data.dataset_artifact import open_data
from pipeline.models.classifier import MODEL
from pipeline.models.vqgan import VQGAN, Architecture, Reconstruction, save
from pipeline.stages import pretrained_discretizer
from pipeline.stages.vqgan_quality import measured
from pipeline.store.artifact import Job, Manifest, replacing
from pipeline.training import vqgan_training
from pipeline.training.job_setup import HISTORY, dataset_source, place_of
from pipeline.training.loop import fit, write_history

REVISION = 1

BATCH = 250  # images at once when the finished discretiser is measured


def run(job: Job) -> Manifest:
    """Train, or take over, measure and save the discretiser that the spec describes."""
    spec = spec_of(job)
    if spec.checkpoint is not None:
        return pretrained_discretizer.load_checkpoint(job)
    recipe, data = spec.recipe, open_data(job.inputs["dataset"])
    fields = {name: getattr(spec, name) for name in VqganShape.model_fields}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model = VQGAN(Architecture(**fields, resolution=data.shape[1], in_channels=data.shape[0]))
    roles = Roles(model.to(spec.device))
    objective = Reconstruction(spec.n_codes)
    if spec.perceptual is not None or spec.adversarial is not None:
        objective = vqgan_training.refined(job, objective, data.shape[0])
    objective = objective.to(spec.device)
    history = fit(
        roles, objective, dataset_source(job, data, recipe), recipe, place_of(job)
    ).history
    with replacing(job.folder / MODEL) as temporary:
        save(model, temporary)
    write_history(job.folder / HISTORY, history)
    facts = measured(model, data.split("test").images, spec.device, BATCH)
    return job.manifest([MODEL, HISTORY], facts)
