"""Attacks for evaluation: one file each, and the file's name is its name in the configuration.

A file holds one frozen dataclass ``Attack``. Its fields are the hyper-parameters (radii and step
sizes in pixels of [0,1]), and two that every attack has:

    n_eval: only the first ``n_eval`` test images are attacked; None means all of them.
    chunk: how many images one call handles; results are stored per chunk.

An attack that not all images or classes suit has a method ``explain_misfit(shape, class_count)``:
for images of this shape (C,H,W) and this number of classes it returns why not and what to use
instead, or an empty text. A plan asks it before anything runs. One that does something else than
its name says on some images or classes has ``explain_variant(shape, class_count)``, which returns
what it does instead, or an empty text. A plan prints it.

An attack that reads a file marks the option that says where it lies with ``metadata={"outside":
True}``; it is in no key. ``find_files(data)`` returns the attack with what stands for the file in
the key; a plan asks it. ``check_test_images(images, labels)`` compares the file with the test split
and raises before anything is predicted. With an argument ``rows`` it is told which rows x is.

``attack(model, x, y, seed, judge)`` takes images (B,C,H,W) float32 in [0,1], labels (B,) int64 and
the chunk's seed, and attacks ``model``. For each `AttackPoint` it returns the classes (B,) int64
that ``judge`` predicts on the attacked images. With None, the model itself predicts; another model
makes it a transfer attack. It raises RetortError unless the model is in eval mode and float32. It
changes neither the models, nor the gradients of their parameters, nor the global random state.

An attack without the argument ``judge`` returns the attacked images (B,C,H,W) in [0,1] in place of
predictions. `run_attack` does the rest: it freezes the model, seeds torch, has the judge predict,
and makes the point of the attack's name and its fields that a point has. With several radii it is
run at one after the other.

An attack whose radius is of another norm than L-infinity says so in a field ``norm``, and its
points end their variant with `name_norm`. Reports read it there with `find_norm`.
"""

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.contracts.values import describe_bad_images, describe_bad_predictions
from pipeline.core.pgd import freeze_modules
from pipeline.core.threat_models import check_radius
from pipeline.discovery import describe_plugin
from pipeline.errors import RetortError

REVISION = 2

Radii = float | tuple[float, ...]
LINF_NAMES = ("linf", "inf", "l_inf", "linfty", "none")  # of the norm L-infinity, in small letters
NORM_AT_END = re.compile(r"(?:.*, )?(L\d+|norm \S+)")  # of a point's variant


@dataclass(frozen=True)
class AttackPoint:
    """The identity of a set of predictions: an attack, and what distinguishes its results.

    A field is None if it does not apply to the attack or does not distinguish its results. The
    attack fills in all fields but `part` and `surrogate`, which the evaluation adds.

    Attributes:
        attack: name in the configuration.
        eps: radius in pixels of [0,1]; 0 for images in no ball.
        steps: number of PGD steps.
        step: size of one step in pixels of [0,1].
        start: where PGD starts, "uniform" or "gauss".
        restarts: how often PGD starts.
        corruption: name of the images' corruption, made by the attack or found in the data set.
        severity: of the corruption, 1 (mild) to 5.
        sample: position on the path that boundary risk follows; 0 is the image itself.
        probe: steps of the PGD that boundary risk probes a sample with; None before it.
        part: part of the test set, if it has parts that are not corruptions.
        surrogate: model that a transfer attack was made on; in outcomes, its key.
        variant: what else distinguishes the results, in words: the strengths of a corruption, the
            attacks of an AutoAttack that is not the standard one, the file of the images, and last
            the norm of a radius that is not in L-infinity.
    """

    attack: str
    eps: float = 0.0
    steps: int | None = None
    step: float | None = None
    start: str | None = None
    restarts: int | None = None
    corruption: str | None = None
    severity: int | None = None
    sample: int | None = None
    probe: int | None = None
    part: str | None = None
    surrogate: str | None = None
    variant: str | None = None


POINT_COLUMNS = tuple(field.name for field in fields(AttackPoint))
SETTINGS = ("eps", "steps", "step", "start", "restarts")  # fields of attacks and points alike
Predictions = dict[AttackPoint, Tensor]


def list_radii(eps: Radii) -> tuple[float, ...]:
    """The radii, one or several, as a tuple of floats."""
    return tuple(float(e) for e in eps) if isinstance(eps, Sequence) else (float(eps),)


def check_radii(eps: Radii) -> None:
    """Raises ValueError unless there is a radius and every one lies in [0,1]."""
    if not list_radii(eps):
        raise ValueError("eps: give at least one radius")
    for value in list_radii(eps):
        check_radius("eps", value)


def check_count(name: str, value: int | None) -> None:
    """Raises ValueError unless the field ``name`` is None or at least 1."""
    if value is not None and value < 1:
        raise ValueError(f"{name}: {value} is below 1")


def check_steps(eps: Radii, step_size: float, steps: int) -> None:
    """Raises ValueError unless steps of this number and size make sense at the largest radius."""
    check_radii(eps)
    check_count("steps", steps)
    largest = max(list_radii(eps))
    check_radius("step", step_size)
    if not step_size:
        raise ValueError("step: 0 moves no image; give a step in pixels of (0,1], such as 2/255")
    if steps > 1 and step_size > largest > 0:
        raise ValueError(
            f"step: {step_size} is larger than eps {largest}, which wastes {steps} steps"
        )


def name_norm(attack: Any) -> str:
    """The norm of an attack's radius: ``L2``, ``norm lpips``; empty for L-infinity."""
    norm = str(getattr(attack, "norm", "linf")).lower()
    if norm in LINF_NAMES or not hasattr(attack, "eps"):
        return ""
    if order := re.fullmatch(r"l?_?(\d+)(\.0)?", norm):
        return f"L{order[1]}"
    return f"norm {'-'.join(norm.split())}"


def find_norm(point: AttackPoint) -> str:
    """The norm of a point's radius, as `name_norm` has it; empty for L-infinity."""
    found = NORM_AT_END.fullmatch(point.variant or "")
    return found[1] if found else ""


def is_bounded(attack: Any) -> bool:
    """Whether an attack has a radius in L-infinity: ``eps``, and no ``norm`` of another name."""
    return hasattr(attack, "eps") and not name_norm(attack)


def explain_bad_settings(attack: Any, shape: tuple[int, ...]) -> str:
    """What is wrong with what attacks have in common, on images (C,H,W); empty if nothing is."""
    try:
        check_count("n_eval", attack.n_eval)
        check_count("chunk", attack.chunk)
        if is_bounded(attack):
            check_radii(attack.eps)
    except ValueError as error:
        return str(error)
    passes = attack.count_passes(shape) if hasattr(attack, "count_passes") else 1
    is_count = isinstance(passes, int | float) and passes > 0
    return "" if is_count else f"count_passes: gives {passes!r}; a number above 0 is expected"


def check_model(model: nn.Module) -> None:
    """Raises RetortError unless all of the model is in eval mode and float32."""
    if any(module.training for module in model.modules()):
        raise RetortError("evaluation: the model is in training mode; call model.eval() first")
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and value.dtype != torch.float32:
            raise RetortError(
                f"evaluation: {name} is {value.dtype}; attack float32 models, call model.float()"
            )


def predict_classes(model: nn.Module, x: Tensor) -> Tensor:
    """The predicted classes (B,) int64 on images (B,C,H,W) in [0,1]."""
    with torch.no_grad():
        return model(x).argmax(1)


def run_attack(
    attack: Any,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    seed: int,
    judge: nn.Module | None = None,
    rows: range | None = None,
) -> Predictions:
    """The predictions of an attack of either form, checked.

    ``rows`` says which rows of the test split x is; an attack gets them if it has that argument.

    Raises:
        RetortError: the attack gives back something else; the message names its file.
    """
    name = get_attack_name(attack)
    check_model(model)
    arguments = inspect.signature(attack).parameters
    if "judge" in arguments:
        which = {"rows": rows} if "rows" in arguments else {}
        predictions = attack(model, x, y, seed, judge, **which)
    else:
        radii = list_radii(attack.eps) if hasattr(attack, "eps") else (None,)
        predictions = {}
        for eps in radii:
            once = attack if eps is None else replace(attack, eps=eps)
            images = attack_images(once, model, x, y, seed) if eps != 0 else x
            predictions[make_point(name, once)] = predict_classes(judge or model, images)
    if fault := describe_bad_predictions(predictions, len(x), name):
        raise RetortError(f"{describe_plugin(attack)}: {fault}")
    return predictions


def attack_images(attack: Any, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
    """The images (B,C,H,W) of an attack that returns images.

    Raises:
        RetortError: they are not in [0,1], or not of x's shape.
    """
    with freeze_modules(model), seed_torch(seed, x.device):
        images = attack(model, x.clone(), y.clone(), seed)
    if fault := describe_bad_images(images, x):
        raise RetortError(f"{describe_plugin(attack)}: {fault}")
    return images.detach().to(x)


def get_attack_name(attack: object) -> str:
    """An attack's name in the configuration: that of its file."""
    return type(attack).__module__.rpartition(".")[2]


def make_point(name: str, attack: Any) -> AttackPoint:
    """The point of an attack at one radius, with the settings that a point has."""
    settings = {k: getattr(attack, k) for k in SETTINGS if hasattr(attack, k)}
    return AttackPoint(name, **settings, variant=name_norm(attack) or None)


@contextmanager
def seed_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's global generators for the block and restores them after it.

    foolbox and AutoAttack can only draw from the global generators.
    """
    devices = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def load_foolbox() -> ModuleType:
    """The foolbox module, imported only when an attack runs.

    foolbox 3.3.4 imports a name that scipy deprecates; only that warning is silenced.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please import `gaussian_filter`", DeprecationWarning)
        import foolbox
    return foolbox


def run_foolbox_attack(
    attack: Callable,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    seed: int,
    judge: nn.Module | None,
    *,
    eps: Radii,
    point: AttackPoint,
) -> Predictions:
    """The predictions after one foolbox attack at each radius, which is set in ``point``.

    Every radius starts from the same seed, so a radius added to a curve does not change the others.
    Radius 0 is the prediction on the clean images.
    """
    check_model(model)
    predictions = {}
    with freeze_modules(model):
        target = load_foolbox().PyTorchModel(model, bounds=(0, 1), device=x.device)
        for radius in list_radii(eps):
            images = x
            if radius > 0:
                with seed_torch(seed, x.device):
                    _, images, _ = attack(target, x, y, epsilons=radius)
            predictions[replace(point, eps=radius)] = predict_classes(judge or model, images)
    return predictions
