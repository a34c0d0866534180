"""What a plug-in must give back, checked in training, in evaluation, and by the trials.

Each function says in words what is wrong; an empty text means that all is well.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MAX_WORDS = 60  # characters of a value that a message shows


def describe_value(value: Any) -> str:
    """A value in a few words: its type, and a tensor's shape and dtype."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    text = repr(value)
    if len(text) > MAX_WORDS or "\n" in text:
        return f"a {type(value).__name__}"
    return f"{text} ({type(value).__name__})"


def describe_bad_terms(terms: Any, count: int) -> str:
    """What is wrong with the terms of ``count`` samples: a dict of (B,) tensors with a gradient."""
    if not isinstance(terms, Mapping):
        return f"a dict of terms is expected, not {describe_value(terms)}"
    if not terms:
        return "a dict of terms is expected, this one is empty"
    for name, values in terms.items():
        shown = f"term {name!r}"
        if not isinstance(name, str):
            return f"{shown}: a term's name is a text"
        if not isinstance(values, Tensor) or not values.is_floating_point():
            return f"{shown}: a tensor of floats is expected, not {describe_value(values)}"
        if values.shape != (count,):
            hint = "; give one value a sample, without mean() or sum()" if values.ndim < 1 else ""
            return (
                f"{shown}: shape {tuple(values.shape)}, ({count},) is expected, one value a "
                f"sample{hint}"
            )
    if not any(values.requires_grad for values in terms.values()):
        return "no term has a gradient: none depends on the student"
    return ""


def describe_bad_needs(needs: Any, known: Sequence[str]) -> str:
    """What is wrong with what ``needs()`` gives back."""
    if not (isinstance(needs, tuple | list) and all(isinstance(n, str) for n in needs)):
        return f"needs() gives {describe_value(needs)}; a tuple of words is expected"
    unknown = [need for need in needs if need not in known]
    if unknown:
        return f"needs() names '{unknown[0]}', which is unknown; known: {', '.join(sorted(known))}"
    return ""


def describe_bad_images(images: Any, x: Tensor, eps: float | None = None) -> str:
    """What is wrong with attacked images of x (B,C,H,W); ``eps`` bounds their L-infinity change."""
    if not isinstance(images, Tensor) or images.shape != x.shape:
        return (
            f"attacked images of shape {tuple(x.shape)} are expected, not {describe_value(images)}"
        )
    if not images.is_floating_point() or not bool(images.isfinite().all()):
        return "an attacked image holds a value that is no finite number"
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        return f"attacked images lie in [{low:.3g}, {high:.3g}], not in [0,1]; clamp them"
    farthest = float((images - x).abs().max())
    if eps is not None and farthest > eps + 1e-6:
        return f"an attacked image is {farthest:.4g} away from its own, farther than eps {eps:.4g}"
    return ""


def describe_bad_predictions(predictions: Any, count: int, name: str) -> str:
    """What is wrong with the predictions of an attack ``name`` on ``count`` images."""
    if not isinstance(predictions, Mapping) or not predictions:
        return (
            "a dict of AttackPoint to predicted classes is expected, not "
            f"{describe_value(predictions)}"
        )
    for point, classes in predictions.items():
        if getattr(point, "attack", None) is None:
            return f"a key is {describe_value(point)}, an AttackPoint is expected"
        if point.attack != name:
            return f"a point names the attack {point.attack!r}; write AttackPoint({name!r}, …)"
        if not isinstance(classes, Tensor) or classes.shape != (count,):
            return f"predicted classes ({count},) are expected, not {describe_value(classes)}"
        if classes.is_floating_point() or classes.dtype == torch.bool:
            return f"predicted classes are whole numbers, not {describe_value(classes)}"
    return ""


def describe_bad_network(network: Any) -> str:
    """What is wrong with what an architecture's ``build`` gives back."""
    if not isinstance(network, nn.Module):
        return f"build gives {describe_value(network)}; an nn.Module is expected"
    for method, what in (
        ("features", "penultimate features (B,D) of images (B,C,H,W)"),
        ("head", "logits (B,K) of features (B,D)"),
    ):
        if not callable(getattr(network, method, None)):
            return f"the network has no method '{method}', which gives {what}"
    return ""


def describe_bad_split(found: Any, shape: Sequence[int], class_count: int) -> str:
    """What is wrong with a data set's images (N,C,H,W) uint8 and labels (N,)."""
    if not (isinstance(found, tuple | list) and len(found) == 2):
        return f"load gives {describe_value(found)}; images and labels are expected"
    images, labels = found
    for name, array in (("images", images), ("labels", labels)):
        if not isinstance(array, np.ndarray):
            return f"load gives {name} as {describe_value(array)}; a numpy array is expected"
    if images.dtype.name != "uint8" or images.shape[1:] != tuple(shape):
        wanted = ", ".join(map(str, shape))
        return f"images are {images.dtype} {images.shape}; uint8 (N, {wanted}) is expected"
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        return f"labels are {labels.dtype} {labels.shape}; int64 ({len(images)},) is expected"
    if class_count and len(labels) and not 0 <= labels.min() <= labels.max() < class_count:
        first, last = int(labels.min()), int(labels.max())
        hint = "; they begin at 1, subtract 1" if (first, last) == (1, class_count) else ""
        return f"a label is {last} or {first}, outside 0 to {class_count - 1}{hint}"
    return ""


def iterate_terms(found: Any, count: int) -> Iterator[tuple[Any, str]]:
    """Each dict of terms that an objective yields, with what is wrong with it."""
    if isinstance(found, Mapping) or not hasattr(found, "__iter__"):
        yield {}, f"it returns {describe_value(found)}; write 'yield' before the dict of terms"
        return
    empty = True
    for terms in found:
        empty = False
        yield terms, describe_bad_terms(terms, count)
    if empty:
        yield {}, "it yields no terms"
