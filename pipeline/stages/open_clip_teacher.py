"""A teacher from an open_clip model: loads its weights, builds or takes over its head."""

import re
from pathlib import Path

import torch
from open_clip.model import convert_to_custom_text_state_dict
from torch import nn

from pipeline.config.specs import get_spec
from pipeline.data.dataset_artefact import DatasetArtefact
from pipeline.errors import RetortError
from pipeline.models import clip, clip_tuned
from pipeline.models.classifier import MODEL_FILE
from pipeline.models.pretrained.checkpoint_files import StateDict, read_state_dict
from pipeline.models.pretrained.state_dict_match import (
    check_exact_match,
    drop_prefixed_tensors,
    strip_common_prefixes,
)
from pipeline.planning.open_clip_registry import read_model_config
from pipeline.stages.pretrained_teacher import measure_trial_accuracy
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 1

WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
SETTING_NAMES = (
    "input_resolution",
    "context_length",
    "vocab_size",
)  # numbers that OpenAI's files hold
BUFFER_SUFFIXES = ("position_ids", "attn_mask")  # constants that models compute themselves
HEAD_PATTERN = re.compile(
    r"(?:.*\.)?(?:head|fc|classifier|classification_head|linear)\.(weight|bias)"
)
TOWER_PREFIX = "visual."


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
        facts["accuracy_of_first_rows"] = measure_trial_accuracy(model.cpu(), data)
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
    state, left_out = rename_tensors(read_state_dict(path, open_clip_spec.pretrained), model)
    model.load_state_dict(
        check_exact_match(
            model.state_dict(), state, str(path), describe_remedy(open_clip_spec.model)
        )
    )
    return model, left_out


def get_checkpoint_path(job: Job) -> Path:
    """The path of the weights, which the job file states."""
    return Path(job.run["checkpoint"]).expanduser()


def describe_remedy(model_name: str) -> str:
    """The remedy for weights that do not fit the model."""
    return f"is open_clip.model '{model_name}' the right one, and the file a complete state_dict?"


def rename_tensors(state: StateDict, model: nn.Module) -> tuple[StateDict, list[str]]:
    """A file's tensors under the names of ``model``, and the names of its unused tensors.

    OpenAI's files hold three numbers beside the weights, traced files hold the text's mask, and old
    files hold position indices and no batch counters. Some models keep the text tower in a module
    of its own.
    """
    state, left = drop_prefixed_tensors(
        strip_common_prefixes(state, WRAPPER_PREFIXES), SETTING_NAMES
    )
    own = model.state_dict()
    made = [n for n in state if n.endswith(BUFFER_SUFFIXES) and n not in own]
    state = {name: value for name, value in state.items() if name not in made}
    if "positional_embedding" in state and "positional_embedding" not in own:
        state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in own and state[name].numel() == 1:
            state[name] = state[name].reshape(own[name].shape)
    counters = {n: v for n, v in own.items() if n.endswith(".num_batches_tracked")}
    return {**counters, **state}, left + made


def build_tuned_classifier(
    job: Job, data: DatasetArtefact
) -> tuple[clip_tuned.FineTunedClip, dict]:
    """The image tower with the file's own linear head, and facts for the manifest."""
    spec, path = get_spec(job), get_checkpoint_path(job)
    open_clip_spec = spec.open_clip
    config = read_model_config(open_clip_spec.model, uses_text=False)
    tower, head, left_out = split_tower_and_head(
        read_state_dict(path, open_clip_spec.pretrained), str(path)
    )
    unit, resize = open_clip_spec.unit_features, spec.resize
    parts = config, data.classes, open_clip_spec.mean, open_clip_spec.std, unit, resize
    model = clip_tuned.FineTunedClip(clip.build_tower(config), *parts).eval()
    remedy = describe_remedy(open_clip_spec.model)
    model.visual.load_state_dict(
        check_exact_match(model.visual.state_dict(), tower, str(path), remedy)
    )
    own = model.linear.state_dict()
    head.setdefault("bias", torch.zeros_like(own["bias"]))
    remedy = "is it a linear head over the data set's classes, on this tower?"
    model.linear.load_state_dict(check_exact_match(own, head, f"{path}: head", remedy))
    return model, {"left_out": left_out}


def split_tower_and_head(state: StateDict, where: str) -> tuple[StateDict, StateDict, list[str]]:
    """A file's image tower and linear head, each without prefix, and the other names.

    Raises:
        RetortError: one of the two is missing.
    """
    tower: StateDict = {}
    head: StateDict = {}
    left_out = []
    for name, value in state.items():
        _, found, rest = name.partition(TOWER_PREFIX)
        if found:
            tower[rest] = value
        elif match := HEAD_PATTERN.fullmatch(name):
            head[match[1]] = value
        else:
            left_out.append(name)
    if not tower:
        raise RetortError(
            f"{where}: holds no image tower '{TOWER_PREFIX}…'; for a file of timm's give model: "
            "timm/<name> with checkpoint, not open_clip"
        )
    if "weight" not in head:
        raise RetortError(
            f"{where}: holds no linear head; name the fine-tuned file, or set head: zeroshot"
        )
    return tower, head, left_out
