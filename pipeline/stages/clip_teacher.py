"""A small CLIP as a teacher: trained on class prompts, saved as its zero-shot classifier."""

import torch

from pipeline.config.specs import spec_of
from pipeline.core.batch import Roles
from pipeline.data.dataset_artifact import Data
from pipeline.models.classifier import MODEL
from pipeline.models.clip import TEMPLATES, PromptClassifier, Size, config_of, save, save_text
from pipeline.schema import make
from pipeline.store.artifact import Job, Manifest, replacing
from pipeline.training.job_setup import (
    HISTORY,
    dataset_source,
    last,
    normalisation,
    place_of,
    validation_of,
)
from pipeline.training.loop import fit, write_history

REVISION = 1

TEXT = "text.safetensors"


def train_clip(job: Job, data: Data) -> Manifest:
    """Train both towers with cross-entropy over the templates' prompts in turn, and save them.

    The zero-shot head, an ensemble over the templates, is computed once and is part of the file
    that students and banks load; the text tower lies beside it.
    """
    spec = spec_of(job)
    recipe, about, templates = spec.recipe, spec.clip, TEMPLATES[spec.clip.templates]
    own = about.model_dump(exclude={"prompt", "templates"})
    config = config_of(Size(**own))
    mean, std = normalisation(data, spec.normalise)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        student = PromptClassifier(config, data.classes, mean, std, about.prompt, templates)
    roles = Roles(student.to(spec.device))
    ((name, options),) = spec.objective.items()
    objective = make("objectives", "Objective", name, options)
    history = fit(
        roles,
        objective,
        dataset_source(job, data, recipe),
        recipe,
        place_of(job),
        validation_of(job, data, recipe),
    ).history
    with replacing(job.folder / MODEL) as temporary:
        save(student.zero_shot(templates), temporary)
    with replacing(job.folder / TEXT) as temporary:
        save_text(student.clip, config, temporary)
    write_history(job.folder / HISTORY, history)
    facts = {**last(history), "templates": len(templates), "classes": len(data.classes)}
    return job.manifest([MODEL, TEXT, HISTORY], facts)
