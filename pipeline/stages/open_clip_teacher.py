"""A teacher from an open_clip model: loads its weights, builds or takes over its head."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from pipeline.config.specs import get_spec
from pipeline.data.dataset_artefact import DatasetArtefact
from pipeline.models import clip, clip_tuned
from pipeline.models.classifier import MODEL_FILE
from pipeline.models.pretrained.checkpoint_files import read_fitting_weights
from pipeline.models.pretrained.open_clip_match import match_model, match_tuned_model
from pipeline.planning.open_clip_registry import read_model_config
from pipeline.stages.teacher_trial import try_teacher
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 1


def load_open_clip(job: Job, data: DatasetArtefact) -> Manifest:
    """Build the classifier and save it; the text tower is run once and not kept.

    Raises:
        RetortError: the file is not what the configuration says, or does not fit the model.
    """
    open_clip_spec = get_spec(job).open_clip
    tuned = open_clip_spec.head == "finetuned"
    build_classifier = build_tuned_classifier if tuned else build_zero_shot_classifier
    model, facts = build_classifier(job, data)
    if open_clip_spec.pretrained != "random":
        unverified = job.run.get("unverified", False)
        facts |= try_teacher(model.cpu(), data, str(get_checkpoint_path(job)), unverified)
    with write_atomically(job.folder / MODEL_FILE) as temporary:
        (clip_tuned if tuned else clip).save(model, temporary)
    facts |= {"weights": open_clip_spec.pretrained, "classes": len(data.classes)}
    return job.build_manifest([MODEL_FILE], facts)


def build_zero_shot_classifier(
    job: Job, data: DatasetArtefact
) -> tuple[clip.ZeroShotClassifier, dict]:
    """The zero-shot classifier, and facts for the manifest."""
    spec = get_spec(job)
    open_clip_spec, device = spec.open_clip, spec.device
    config = read_model_config(open_clip_spec.model, uses_text=True)
    clip_model, left_out = build_clip_model(job, config)
    templates = clip.PROMPT_TEMPLATES[open_clip_spec.templates]
    tokenizer = clip.get_tokenizer(config)
    weights = clip.build_zero_shot_head(
        clip_model.to(device), tokenizer, open_clip_spec.prompted, templates
    )
    parts = (
        config,
        data.classes,
        open_clip_spec.mean,
        open_clip_spec.std,
        weights,
        clip_model.logit_scale.exp(),
    )
    model = clip.ZeroShotClassifier(clip_model.visual, *parts, spec.resize).eval()
    return model, {"templates": len(templates), "left_out": left_out}


def build_clip_model(job: Job, config: dict) -> tuple[nn.Module, list[str]]:
    """The CLIP with the file's weights or random ones, and the names of unused tensors."""
    open_clip_spec = get_spec(job).open_clip
    if open_clip_spec.pretrained == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(get_spec(job).seed)
            return clip.build(config).eval(), []
    model, path = clip.build(config).eval(), get_checkpoint_path(job)
    match = partial(match_model, model=model, model_name=open_clip_spec.model, where=str(path))
    sum_and_set = open_clip_spec.pretrained, open_clip_spec.take
    state, left_out = match(read_fitting_weights(path, *sum_and_set, match)[1])
    model.load_state_dict(state)
    return model, left_out


def get_checkpoint_path(job: Job) -> Path:
    """The path of the weights, which the job file states."""
    return Path(job.run["checkpoint"]).expanduser()


def build_tuned_classifier(
    job: Job, data: DatasetArtefact
) -> tuple[clip_tuned.FineTunedClip, dict]:
    """The image tower with the file's own linear head, and facts for the manifest."""
    spec, path = get_spec(job), get_checkpoint_path(job)
    open_clip_spec = spec.open_clip
    config = read_model_config(open_clip_spec.model, uses_text=False)
    unit, resize = open_clip_spec.unit_features, spec.resize
    parts = config, data.classes, open_clip_spec.mean, open_clip_spec.std, unit, resize
    model = clip_tuned.FineTunedClip(clip.build_tower(config), *parts).eval()
    networks = model.visual, model.linear, open_clip_spec.model, str(path)
    sum_and_set = open_clip_spec.pretrained, open_clip_spec.take
    _, state = read_fitting_weights(
        path, *sum_and_set, lambda state: match_tuned_model(state, *networks)
    )
    tower, head, left_out = match_tuned_model(state, *networks)
    model.visual.load_state_dict(tower)
    model.linear.load_state_dict(head)
    return model, {"left_out": left_out}
