"""A small CLIP as a teacher: trained on class prompts, saved as its zero-shot classifier."""

import torch

from pipeline.config.specs import get_spec
from pipeline.core.batch import Roles
from pipeline.data.dataset_artefact import DatasetArtefact
from pipeline.models.classifier import MODEL_FILE
from pipeline.models.clip import (
    PROMPT_TEMPLATES,
    ClipSize,
    PromptClassifier,
    make_open_clip_config,
    save,
    save_text_tower,
)
from pipeline.schema import make_plugin
from pipeline.stages.teacher_trial import try_teacher
from pipeline.store.artefact import Job, Manifest, write_atomically
from pipeline.training.job_setup import (
    HISTORY_FILE,
    make_checkpoint_settings,
    make_dataset_source,
    make_validation_split,
    resolve_normalisation,
    summarise_history,
)
from pipeline.training.loop import fit, write_history

REVISION = 1

TEXT_FILE = "text.safetensors"


def train_clip(job: Job, data: DatasetArtefact) -> Manifest:
    """Train both towers with cross-entropy over the templates' prompts in turn, and save them.

    The zero-shot head, an ensemble over the templates, is computed once and is part of the file
    that students and banks load; the text tower lies beside it.
    """
    spec = get_spec(job)
    recipe, about, templates = spec.recipe, spec.clip, PROMPT_TEMPLATES[spec.clip.templates]
    own = about.model_dump(exclude={"prompt", "templates"})
    config = make_open_clip_config(ClipSize(**own))
    mean, std = resolve_normalisation(data, spec.normalise)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        student = PromptClassifier(config, data.classes, mean, std, about.prompt, templates)
    roles = Roles(student.to(spec.device))
    ((name, options),) = spec.objective.items()
    objective = make_plugin("objectives", "Objective", name, options)
    history = fit(
        roles,
        objective,
        make_dataset_source(job, data, recipe),
        recipe,
        make_checkpoint_settings(job),
        make_validation_split(job, data, recipe),
    ).history
    model = student.make_zero_shot_classifier(templates)
    if not job.run.get("unverified"):
        try_teacher(model, data, f"teacher {job.name}", False, stops=False)
    with write_atomically(job.folder / MODEL_FILE) as temporary:
        save(model, temporary)
    with write_atomically(job.folder / TEXT_FILE) as temporary:
        save_text_tower(student.clip, config, temporary)
    write_history(job.folder / HISTORY_FILE, history)
    facts = {
        **summarise_history(history),
        "templates": len(templates),
        "classes": len(data.classes),
    }
    return job.build_manifest([MODEL_FILE, TEXT_FILE, HISTORY_FILE], facts)
