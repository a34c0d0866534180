"""ImageNet's class lists, read from the installed packages without importing them."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

REVISION = 1

SUBSETS = ("a", "r")  # ImageNet-A and ImageNet-R: 200 classes each of the thousand


@cache
def read_timm_list(name: str) -> tuple[str, ...]:
    """The lines of one of timm's lists."""
    (place,) = find_spec("timm").submodule_search_locations
    return tuple((Path(place) / "data" / "_info" / f"{name}.txt").read_text().split())


def load_wordnet_ids() -> tuple[str, ...]:
    """The thousand WordNet ids of ILSVRC 2012 in label order, which is sorted order."""
    return read_timm_list("imagenet_synsets")


@cache
def load_class_names() -> tuple[str, ...]:
    """OpenAI's thousand class names in label order, used in CLIP's prompts."""
    (place,) = find_spec("open_clip").submodule_search_locations
    tree = ast.parse((Path(place) / "zero_shot_metadata.py").read_text())
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "IMAGENET_CLASSNAMES"
    )
    return ast.literal_eval(value)


def load_subset_labels(which: str) -> tuple[int, ...]:
    """Labels of the 200 classes of ImageNet-A or ImageNet-R."""
    return tuple(map(int, read_timm_list(f"imagenet_{which}_indices")))
