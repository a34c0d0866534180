"""Trials of an attack: its points, the images that its judge sees, and what it leaves alone."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.contracts.values import describe_bad_images
from pipeline.core.attack_protocol import (
    AttackPoint,
    explain_bad_settings,
    find_norm,
    is_bounded,
    list_radii,
    name_norm,
    run_attack,
)
from pipeline.discovery import load_plugin
from pipeline.trials.requirements import make_plain_network, make_samples, require

COUNT, CLASSES, SIDE = 4, 10, 32


class Watched(nn.Module):
    """A model that keeps every batch it receives."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits (B,K)."""
        self.seen.append(x.detach().clone())
        return self.model(x)


def check_point(attack: Any, name: str, point: AttackPoint) -> None:
    """A point names its attack; what it states is the attack's own, or its radius is one of it."""
    stated = {k: v for k, v in asdict(point).items() if v is not None}
    named = stated.pop("attack")
    require(named == name, f"a point names the attack {named!r}, not {name!r}")
    radii = list_radii(attack.eps) if hasattr(attack, "eps") else (0.0,)
    eps = stated.pop("eps")
    stated.pop("variant", None)  # words that no option need hold
    norm = name_norm(attack)
    require(find_norm(point) == norm, f"a point's variant does not end with its norm, {norm!r}")
    require(eps in radii, f"a point states eps {eps:.4g}, which is none of the attack's")
    if point.corruption is not None and hasattr(attack, "names"):
        require(stated.pop("corruption") in attack.names, "a point states another corruption")
    if point.sample is not None:
        require(stated.pop("sample") in range(attack.steps), "a point states a sample off the path")
    for field, value in stated.items():
        own = getattr(attack, field, None)
        require(own == value, f"a point states {field} {value!r}, the attack has {own!r}")


def check_points(name: str, options: dict[str, Any], classes: int, side: int) -> None:
    """Every point states the attack's own settings."""
    attack = load_plugin("attacks", name).Attack(**options)
    net = make_plain_network(classes, side)
    for point in run_attack(attack, net, *make_samples(net, 2, side), 0):
        check_point(attack, name, point)
        require(
            point.part is None and point.surrogate is None,
            "a point states 'part' or 'surrogate', which the evaluation adds",
        )


def check_repeats_and_leaves_no_trace(name: str, count: int = 12) -> None:
    """Two runs agree; global chance, images and the model's gradients stay as they were."""
    net = make_plain_network(CLASSES, SIDE)
    x, y = make_samples(net, count, SIDE)
    images, state = x.clone(), torch.get_rng_state()
    attack = load_plugin("attacks", name).Attack()
    first, second = (run_attack(attack, net, x, y, 4) for _ in range(2))
    require(first.keys() == second.keys(), "two runs give other points")
    for point, predictions in first.items():
        check_point(attack, name, point)
        same = torch.equal(predictions, second[point])
        require(same, "two runs with one seed differ; draw from the seed alone")
        whole = predictions.dtype == torch.int64
        require(whole, f"predicted classes are {predictions.dtype}; int64 is expected")
    kept = torch.equal(torch.get_rng_state(), state)
    require(kept, "it draws from torch's global generator and does not restore it")
    require(torch.equal(x, images), "it changes the images x in place")
    left = all(p.grad is None and p.requires_grad for p in net.parameters())
    require(left, "it leaves gradients in the model, or freezes its parameters")


def check_images(name: str) -> None:
    """The judge sees images in [0,1], within the attack's largest radius in L-infinity.

    An attack with a field ``norm`` other than "linf" is not held to its radius.
    """
    net = make_plain_network(CLASSES, SIDE)
    x, y = make_samples(net, COUNT, SIDE)
    attack = load_plugin("attacks", name).Attack()
    judge = Watched(make_plain_network(CLASSES, SIDE)).eval()
    run_attack(attack, net, x, y, 0, judge)
    require(bool(judge.seen), "the judge sees no images; predict with 'judge or model'")
    radius = max(list_radii(attack.eps)) if is_bounded(attack) else None
    for z in judge.seen:
        fault = describe_bad_images(z, x, radius)
        require(not fault, fault)


def check_answers(name: str) -> None:
    """Its common settings are possible, and what it says of images is a text."""
    attack, shape = load_plugin("attacks", name).Attack(), (3, SIDE, SIDE)
    fault = explain_bad_settings(attack, shape)
    require(not fault, fault)
    for method in ("explain_misfit", "explain_variant"):
        if hasattr(attack, method):
            said = getattr(attack, method)(shape, CLASSES)
            is_text = said is None or isinstance(said, str)
            require(is_text, f"{method} gives {said!r}; a text is expected")


def try_attack(name: str) -> None:
    """All trials.

    Raises:
        RetortError: what was seen in the first that fails.
    """
    check_answers(name)
    check_points(name, {}, CLASSES, SIDE)
    check_images(name)
    check_repeats_and_leaves_no_trace(name, COUNT)
