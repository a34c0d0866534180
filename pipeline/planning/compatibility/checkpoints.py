"""Checks whether files of weights fit the networks that sections ask for, by names and shapes.

Only a file that is here is looked at: on a cluster it may be elsewhere, and then the job finds out.
What is made already is not looked at either.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pipeline.config.reader import Config
from pipeline.config.sections.teacher import TeacherSettings
from pipeline.config.specs import dump_spec, get_spec
from pipeline.core.meta_device import build_on_meta
from pipeline.errors import explain_denied_reading, prefix_errors
from pipeline.models.classifier import build_classifier
from pipeline.models.pretrained.checkpoint_files import choose_weights, load_foreign_weights
from pipeline.models.pretrained.finetune_init import fill_student
from pipeline.models.pretrained.outlines import read_outline
from pipeline.models.pretrained.weight_sets import StateDict
from pipeline.planning.compatibility.fits import get_image_shape, list_dataset_classes
from pipeline.planning.compatibility.students import find_model_dataset, list_model_classes
from pipeline.planning.plan import Plan


def check_checkpoints(config: Config, plan: Plan) -> None:
    """Raise if a file that an unfinished artefact needs is here and does not fit its section."""
    for name, section in config.teachers.items():
        if not is_due(plan, "teacher", name):
            continue
        if section.checkpoint is not None:
            check = partial(check_classifier, config, name, section.model)
            check_file(f"teachers.{name}.checkpoint", section.checkpoint, check)
        elif section.open_clip is not None and section.open_clip.pretrained is not None:
            place = f"teachers.{name}.open_clip.pretrained"
            check_file(place, section.open_clip.pretrained, partial(check_clip, config, section))
    for name, section in config.discretizers.items():
        if section.checkpoint is not None and is_due(plan, "discretizer", name):
            check = partial(check_vqgan, plan, name)
            check_file(f"discretizers.{name}.checkpoint", section.checkpoint, check)
    for name, section in config.students.items():
        seeds = section.seeds or (config.seed,)
        if section.init and any(is_due(plan, "student", f"{name}-{seed}") for seed in seeds):
            check = partial(check_student_init, config, name, section.model)
            check_file(f"students.{name}.init", section.init, check)


def is_due(plan: Plan, kind: str, name: str) -> bool:
    """Whether an artefact of a plan is not finished."""
    ref = plan.refs_by_name.get((kind, name))
    return ref is not None and not plan.is_complete(ref)


def check_file(place: str, file, check: Callable[[StateDict, str], object]) -> None:
    """Raise if a section's file is here and its weights do not pass ``check(weights, where)``."""
    path = Path(file.path).expanduser()
    with prefix_errors(f"{place}: "):
        with explain_denied_reading(path):
            if not path.exists():
                return
            outline = read_outline(path, file.sha256)
        match = partial(check, where=str(path))
        match(choose_weights(path, outline, file.take, match)[1])


def build_outline(config: Config, name: str, model: str) -> nn.Module:
    """The classifier of a teacher or student on the meta device."""
    channels = get_image_shape(config, find_model_dataset(config, name))[0]
    mean_and_std = (0.0,) * channels, (1.0,) * channels
    class_count = len(list_model_classes(config, name))
    return build_on_meta(build_classifier, model, class_count, *mean_and_std)


def check_classifier(config: Config, name: str, model: str, weights: StateDict, where: str) -> None:
    """Raise if weights do not fit a teacher's network."""
    load_foreign_weights(build_outline(config, name, model), weights, where)


def check_student_init(
    config: Config, name: str, model: str, weights: StateDict, where: str
) -> None:
    """Raise if initial weights do not fit a student's network, whatever their head."""
    class_count = len(list_model_classes(config, name))
    fill_student(weights, build_outline(config, name, model), class_count, where)


def check_clip(config: Config, section: TeacherSettings, weights: StateDict, where: str) -> None:
    """Raise if weights do not fit an open_clip model, or its image tower and head."""
    from pipeline.models import clip
    from pipeline.models.pretrained.open_clip_match import match_model, match_tuned_model
    from pipeline.planning.open_clip_registry import read_model_config

    about = section.open_clip
    model_config = read_model_config(about.model, uses_text=about.head == "zeroshot")
    if about.head == "zeroshot":
        model = build_on_meta(clip.build, model_config, "meta")
        match_model(weights, model, about.model, where)
        return
    tower = build_on_meta(clip.build_tower, model_config)
    class_count = len(list_dataset_classes(config, section.dataset))
    with torch.device("meta"):
        linear = nn.Linear(model_config["embed_dim"], class_count)
    match_tuned_model(weights, tower, linear, about.model, where)


def check_vqgan(plan: Plan, name: str, weights: StateDict, where: str) -> None:
    """Raise if weights are those of no VQGAN, or of another than the section's ``config`` says."""
    from pipeline.models.pretrained.vqgan_match import assemble_vqgan

    spec = get_spec(plan.artefacts[plan.refs_by_name["discretizer", name]])
    stated = None if spec.architecture is None else dump_spec(spec.architecture)
    assemble_vqgan(weights, stated, where)
