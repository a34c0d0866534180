"""What a plan reads of open_clip's models before any is built: side, colours, class names."""

import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache

from pipeline.config.sections.outside import OpenClipWeights
from pipeline.discovery import suggest_known
from pipeline.errors import RetortError

IMAGENET_NUMBERS = [str(number) for number in range(1000)]  # ImageNet-V2's folders
ChannelStatistics = tuple[
    tuple[float, ...], tuple[float, ...]
]  # mean and standard deviation by channel


def read_model_config(name: str, uses_text: bool) -> dict:
    """open_clip's configuration of a model, changed so that building it loads no weights.

    Args:
        name: the model's name in open_clip.
        uses_text: whether its text tower will be used.

    Raises:
        RetortError: the name is unknown, the model does not give one embedding per image, or its
            tokenizer would have to be downloaded.
    """
    import open_clip  # seconds to import, and few plans name such a model

    if name not in (known := open_clip.list_models()):
        raise RetortError(f"model: open_clip has no '{name}'{suggest_known(name, known)}")
    config = open_clip.get_model_config(name)
    if "multimodal_cfg" in config or config["vision_cfg"].get("output_tokens"):
        raise RetortError(f"model: '{name}' writes captions; name one of two towers alone")
    if uses_text and config["text_cfg"].keys() & {"hf_model_name", "hf_tokenizer_name"}:
        raise RetortError(
            f"model: the tokenizer of '{name}' is not part of open_clip; name a model with "
            "OpenAI's, such as ViT-B-16, or set head: finetuned"
        )
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    return config


def read_image_side(config: dict) -> int:
    """Side of the images that a model takes, in pixels."""
    size = config["vision_cfg"].get("image_size", 224)
    return size if isinstance(size, int) else size[0]


def look_up_statistics(name: str, tag: str | None) -> ChannelStatistics:
    """Mean and std that a model's images are normalised by, as open_clip lists them.

    Args:
        name: the model's name in open_clip.
        tag: the published weights; None if the configuration does not name them.

    Raises:
        RetortError: the tag is unknown, its weights were trained with another activation than the
            model's, or there is no tag and the published weights differ in these values.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag is not None and tag not in tags:
        raise RetortError(
            f"pretrained.tag: {name} has no weights '{tag}'{suggest_known(tag, tags)}"
        )
    quick = bool(open_clip.get_model_config(name).get("quick_gelu"))
    found = {}
    for each in tags if tag is None else [tag]:
        about = open_clip.get_pretrained_cfg(name, each)
        where = (
            tuple(about.get(part, default)) for part, default in get_openai_statistics().items()
        )
        found[each] = (*where, bool(about.get("quick_gelu", quick)))
    if tag is not None and found[tag][2] != quick:
        other = name.removesuffix("-quickgelu") if quick else f"{name}-quickgelu"
        raise RetortError(
            f"model: weights '{tag}' were trained with{'out' if quick else ''} QuickGELU, '{name}' "
            f"has {'it' if quick else 'none'}; name '{other}'"
        )
    if len(set(found.values())) > 1:
        raise RetortError(
            f"pretrained: weights of {name} differ in mean, std or activation; say whose they are "
            f"with 'tag' ({', '.join(tags)}), or give 'mean' and 'std'"
        )
    return next(iter(found.values()), tuple(get_openai_statistics().values()))[:2]


def resolve_normalisation(name: str, pretrained: OpenClipWeights | None) -> ChannelStatistics:
    """Mean and std of weights from a file, as configured or by their tag; OpenAI's for random ones.

    Raises:
        RetortError: they are neither configured nor known, or the tag does not fit the model.
    """
    if pretrained is None:
        return tuple(get_openai_statistics().values())
    if pretrained.tag is None and pretrained.mean is not None:
        return pretrained.mean, pretrained.std
    found = look_up_statistics(name, pretrained.tag)
    return (pretrained.mean, pretrained.std) if pretrained.mean is not None else found


def get_openai_statistics() -> dict[str, tuple[float, ...]]:
    """OpenAI's mean and std, which are open_clip's defaults."""
    import open_clip

    return {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}


@cache
def load_imagenet_names() -> dict[str, str]:
    """ImageNet's English names for prompts, by WordNet id and by number."""
    import open_clip

    ids = pkgutil.get_data("timm", "data/_info/imagenet_synsets.txt").decode().split()
    names = open_clip.IMAGENET_CLASSNAMES
    return dict(zip(ids, names, strict=True)) | dict(zip(IMAGENET_NUMBERS, names, strict=True))


def list_prompt_names(
    classes: Sequence[str], names: str | Sequence[str] | Mapping[str, str]
) -> list[str]:
    """The name of each class in prompts, in the data set's order.

    Raises:
        RetortError: there are more or fewer names than classes, the names are the classes in
            another order, or a class has no name.
    """
    if names == "dataset":
        return list(classes)
    if isinstance(names, Mapping) and (strange := [n for n in names if n not in classes]):
        raise RetortError(f"'{strange[0]}' is no class of the data set{suggest_known('', classes)}")
    given = load_imagenet_names() if names == "imagenet" else names
    if isinstance(given, Mapping):
        lacking = [name for name in classes if name not in given]
        if lacking:
            remedy = (
                "ImageNet's classes are WordNet ids or the numbers 0 to 999; give a list, or "
                "{class: name}"
                if names == "imagenet"
                else "name every class"
            )
            raise RetortError(f"class '{lacking[0]}' has no name; {remedy}")
        return [given[name] for name in classes]
    check_class_order(classes, given)
    return list(given)


def check_class_order(classes: Sequence[str], names: Sequence[str]) -> None:
    """Raise a RetortError if names and classes differ in number, or only in their order."""
    if len(names) != len(classes):
        raise RetortError(
            f"{len(names)} names, the data set has {len(classes)} classes; give one name a class, "
            "in the data set's order"
        )
    if sorted(names) == sorted(classes) and tuple(names) != tuple(classes):
        at, ours, theirs = find_first_difference(classes, names)
        numbers = ours.isdecimal() and list(names) == sorted(names)
        hint = ", as text sorts numbers" if numbers else ""
        raise RetortError(
            f"the classes stand in another order{hint}: class {at} of the data set is '{ours}', "
            f"of the list '{theirs}'; put the list, and what it describes, in the data set's order"
        )


def check_class_names(classes: Sequence[str], names: Sequence[str]) -> None:
    """Raise a RetortError if a list of names differs from the classes."""
    check_class_order(classes, names)
    if tuple(names) != tuple(classes):
        at, ours, theirs = find_first_difference(classes, names)
        raise RetortError(
            f"class {at} is '{theirs}', of the data set '{ours}'; name the file of these classes"
        )


def find_first_difference(classes: Sequence[str], names: Sequence[str]) -> tuple[int, str, str]:
    """The first index at which two lists of one length differ, and both values there."""
    pairs = enumerate(zip(classes, names, strict=True))
    return next((at, *pair) for at, pair in pairs if pair[0] != pair[1])
