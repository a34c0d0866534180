"""A teacher from any open_clip model: its weights fitted, its head made or taken over."""

import re
from pathlib import Path

import torch
from open_clip.model import convert_to_custom_text_state_dict
from torch import nn

from pipeline.config.specs import spec_of
from pipeline.data.dataset_artifact import Data
from pipeline.errors import RetortError
from pipeline.models import clip, clip_tuned
from pipeline.models.classifier import MODEL
from pipeline.models.pretrained.checkpoint_files import State, read
from pipeline.models.pretrained.state_dict_match import exactly, unprefixed, without
from pipeline.planning.open_clip_registry import config_of
from pipeline.stages.pretrained_teacher import tried
from pipeline.store.artifact import Job, Manifest, replacing

REVISION = 1

WRAPPERS = ("module.", "_orig_mod.", "model.")
SETTINGS = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's files hold
MADE = ("position_ids", "attn_mask")  # constants that models make themselves
HEAD = re.compile(r"(?:.*\.)?(?:head|fc|classifier|classification_head|linear)\.(weight|bias)")
TOWER = "visual."


def load_open_clip(job: Job, data: Data) -> Manifest:
    """Make the classifier and save it; the text tower is run once and not kept.

    Raises:
        RetortError: the file is not what the configuration says, or does not fit the model.
    """
    about = spec_of(job).open_clip
    tuned = about.head == "finetuned"
    make = tuned_classifier if tuned else zero_shot_classifier
    model, facts = make(job, data)
    if about.pretrained != "random":
        facts["accuracy_of_first_rows"] = tried(model.cpu(), data)
    with replacing(job.folder / MODEL) as temporary:
        (clip_tuned if tuned else clip).save(model, temporary)
    facts |= {"weights": about.pretrained, "classes": len(data.classes)}
    return job.manifest([MODEL], facts)


def zero_shot_classifier(job: Job, data: Data) -> tuple[clip.ZeroShot, dict]:
    """The zero-shot classifier and what to say of it."""
    spec = spec_of(job)
    about, device = spec.open_clip, spec.device
    config = config_of(about.model, text=True)
    whole, left = filled(job, config)
    templates = clip.TEMPLATES[about.templates]
    tokenizer = clip.tokenizer_of(config)
    weights = clip.zero_shot(whole.to(device), tokenizer, about.prompted, templates)
    parts = config, data.classes, about.mean, about.std, weights, whole.logit_scale.exp()
    model = clip.ZeroShot(whole.visual, *parts, spec.resize).eval()
    return model, {"templates": len(templates), "left_out": left}


def filled(job: Job, config: dict) -> tuple[nn.Module, list[str]]:
    """The whole model with the file's weights, or with random ones, and the names left out."""
    about = spec_of(job).open_clip
    if about.pretrained == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec_of(job).seed)
            return clip.build(config).eval(), []
    model, path = clip.build(config).eval(), place_of(job)
    state, left = renamed(read(path, about.pretrained), model)
    model.load_state_dict(exactly(model.state_dict(), state, str(path), remedy_for(about.model)))
    return model, left


def place_of(job: Job) -> Path:
    """Where the weights lie, which is in the work order."""
    return Path(job.run["checkpoint"]).expanduser()


def remedy_for(name: str) -> str:
    """What to do about weights that do not fit."""
    return f"is open_clip.model '{name}' the right one, and the file a whole state_dict?"


def renamed(state: State, model: nn.Module) -> tuple[State, list[str]]:
    """A file's tensors under the names of ``model``, and the names that it has no use for.

    OpenAI's files hold three numbers beside the weights, traced ones the text's mask, old ones
    position indices and no counters of batches; and some models keep the text tower in a module of
    its own.
    """
    state, left = without(unprefixed(state, WRAPPERS), SETTINGS)
    own = model.state_dict()
    made = [n for n in state if n.endswith(MADE) and n not in own]
    state = {name: value for name, value in state.items() if name not in made}
    if "positional_embedding" in state and "positional_embedding" not in own:
        state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in own and state[name].numel() == 1:
            state[name] = state[name].reshape(own[name].shape)
    counters = {n: v for n, v in own.items() if n.endswith(".num_batches_tracked")}
    return {**counters, **state}, left + made


def tuned_classifier(job: Job, data: Data) -> tuple[clip_tuned.Tuned, dict]:
    """The tower with the file's own linear head, and what to say of it."""
    spec, path = spec_of(job), place_of(job)
    about = spec.open_clip
    config = config_of(about.model, text=False)
    tower, head, left = parted(read(path, about.pretrained), str(path))
    unit, resize = about.unit_features, spec.resize
    parts = config, data.classes, about.mean, about.std, unit, resize
    model = clip_tuned.Tuned(clip.tower_of(config), *parts).eval()
    remedy = remedy_for(about.model)
    model.visual.load_state_dict(exactly(model.visual.state_dict(), tower, str(path), remedy))
    own = model.linear.state_dict()
    head.setdefault("bias", torch.zeros_like(own["bias"]))
    remedy = "is it a linear head over the data set's classes, on this tower?"
    model.linear.load_state_dict(exactly(own, head, f"{path}: head", remedy))
    return model, {"left_out": left}


def parted(state: State, where: str) -> tuple[State, State, list[str]]:
    """A file's image tower and linear head, each without prefix, and the names of all else.

    Raises:
        RetortError: one of the two is missing.
    """
    tower: State = {}
    head: State = {}
    left = []
    for name, value in state.items():
        _, found, rest = name.partition(TOWER)
        if found:
            tower[rest] = value
        elif match := HEAD.fullmatch(name):
            head[match[1]] = value
        else:
            left.append(name)
    if not tower:
        raise RetortError(
            f"{where}: holds no image tower '{TOWER}…'; for a file of timm's give model: "
            "timm/<name> with checkpoint, not open_clip"
        )
    if "weight" not in head:
        raise RetortError(
            f"{where}: holds no linear head; name the fine-tuned file, or set head: zeroshot"
        )
    return tower, head, left
