"""The section of teachers: trained, loaded from a file, or a CLIP."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.config.plugin_fields import ObjectiveSpec, Plugin
from pipeline.config.recipe import Recipe
from pipeline.config.sections.outside import (
    ChannelMeans,
    ChannelStds,
    CheckpointSpec,
    ExternalCheckpoint,
    OpenClipWeights,
    Sha256,
)
from pipeline.config.sections.trained import NormaliseOption, OptionallyComputed, TrainedSettings
from pipeline.schema import PositiveInt, Section, make_neutral_field

FILE_FIELDS = {  # a field that loads a file -> what it loads, and the field with mean and std
    "checkpoint": ("a checkpoint", "checkpoint"),
    "open_clip": ("an open_clip model", "open_clip.pretrained"),
}


class ClipSettings(Section):
    """A small CLIP, trained here: a convolutional image tower and a text transformer.

    Attributes:
        image_width: channels of the first stage of the image tower.
        embed: number of features that images and texts share.
        text_width: number of features of the text transformer.
        text_layers: number of layers of the text transformer.
        text_heads: number of attention heads of each of its layers.
        context: number of tokens of the longest prompt.
        prompt: the text to which an image is fitted in training; `{}` stands for its class.
        templates: prompts for each class when it classifies: OpenAI's 80 for ImageNet, or their
            simple seven.
    """

    image_width: PositiveInt = 32
    embed: PositiveInt = 64
    text_width: PositiveInt = 64
    text_layers: PositiveInt = 2
    text_heads: PositiveInt = 2
    context: PositiveInt = 16
    prompt: str = "a photo of a {}."
    templates: Literal["openai", "simple"] = "openai"


def parse_pretrained(value: Any) -> Any:
    """None for `random`; the value itself for a file.

    Raises:
        ValueError: it is a name of weights, which would have to be downloaded.
    """
    if isinstance(value, dict | OpenClipWeights):
        return value
    if value == "random":
        return None
    raise ValueError("give the local file {path: …, sha256: …}, or 'random' for a trial run")


def parse_class_names(value: Any) -> Any:
    """The names of classes: 'dataset', 'imagenet', a tuple of names, or {class: name}.

    Raises:
        ValueError: it is something else.
    """
    texts = value.values() if isinstance(value, dict) else value
    if value in ("dataset", "imagenet"):
        return value
    if isinstance(value, dict | list | tuple) and all(isinstance(text, str) for text in texts):
        return {str(k): v for k, v in value.items()} if isinstance(value, dict) else tuple(value)
    raise ValueError("give 'dataset', 'imagenet', a list of names, or {class: name}")


class OpenClipForm(Section):
    """The fields that the section and the spec of an open_clip model share.

    Attributes:
        model: open_clip's name of the model, such as `ViT-B-16`.
        head: class prompts through the text tower, or the linear head in the file.
        templates: prompts for each class: OpenAI's 80 for ImageNet, or their simple seven.
        unit_features: whether a finetuned head reads features of unit length.
    """

    model: str
    head: Literal["zeroshot", "finetuned"] = "zeroshot"
    templates: Literal["openai", "simple"] = "openai"
    unit_features: bool = make_neutral_field(True)


class OpenClipSpec(OpenClipForm):
    """The spec of an open_clip model.

    Attributes:
        pretrained: sum of the file, or `random`.
        take: the file's set of weights; None for the only one that fits.
        prompted: name of each class in the prompts; empty if there are no prompts.
    """

    pretrained: Sha256 | Literal["random"]
    take: str | None = make_neutral_field(None)
    mean: ChannelMeans
    std: ChannelStds
    prompted: tuple[str, ...] = ()


class OpenClipSettings(OpenClipForm):
    """Any open_clip model by name, its weights from a local file.

    Attributes:
        pretrained: the file, or `random` for weights drawn from the seed, in trial runs only.
        names: names of the classes in the prompts: the data set's own names; ImageNet's English
            names by WordNet id or number; a list in the data set's order; or {class: name}.
    """

    pretrained: Annotated[OpenClipWeights | None, BeforeValidator(parse_pretrained)]
    names: Annotated[str | tuple[str, ...] | dict[str, str], BeforeValidator(parse_class_names)] = (
        "dataset"
    )

    @model_validator(mode="after")
    def check_head_has_weights(self):
        """Checks that a finetuned head comes from a file and sets no prompts."""
        if self.head == "finetuned" and self.pretrained is None:
            raise ValueError("head: a finetuned head comes from a file; give pretrained.path")
        if self.head == "finetuned" and self.model_fields_set & {"templates", "names"}:
            raise ValueError("head: a finetuned head has no prompts; drop templates and names")
        if self.head == "zeroshot" and not self.unit_features:
            raise ValueError("unit_features: a zero-shot head's are always of unit length; drop it")
        return self


class TeacherForm(TrainedSettings):
    """The fields that a teacher's section and its spec share.

    Attributes:
        model: the network: an architecture by its name.
        clip: settings of a small CLIP that is trained here.
        resize: side in pixels of the image to which the model itself resizes its input; only for a
            model from a file. Without it nothing is resized.
        normalise: whether pixels are normalised by the data set's mean and standard deviation, or
            seen as they are.
    """

    model: str | None = None
    clip: ClipSettings | None = None
    resize: PositiveInt | None = make_neutral_field(None)
    normalise: NormaliseOption = make_neutral_field("dataset")


class TeacherSpec(TeacherForm, OptionallyComputed):
    """The spec of a teacher; one from a file has no objective."""

    open_clip: OpenClipSpec | None = None
    checkpoint: CheckpointSpec | None = None
    objective: Plugin = {}

    @property
    def is_clip(self) -> bool:
        """Whether it is a CLIP, trained here or from a file."""
        return self.clip is not None or self.open_clip is not None


class TeacherSettings(TeacherForm):
    """A classifier trained on a data set or loaded from a file, or a CLIP.

    Attributes:
        dataset: name of the data set whose classes it predicts, and on which it is trained.
        open_clip: settings of any open_clip model, with weights from a file.
        checkpoint: file of the weights of `model`; such a teacher is not trained.
        objective: what its training minimises: an objective, with its options.
        unverified: use the teacher even if it is near chance on its training images. It changes no
            weights, so it is in no key.
    """

    dataset: str
    unverified: bool = False
    open_clip: OpenClipSettings | None = make_neutral_field(None)
    checkpoint: ExternalCheckpoint | None = make_neutral_field(None)
    objective: ObjectiveSpec = Field(default={"natural": {}}, validate_default=True)

    @model_validator(mode="after")
    def check_one_network(self):
        """Checks that there is exactly one of model, clip and open_clip."""
        if sum(part is not None for part in (self.model, self.clip, self.open_clip)) != 1:
            raise ValueError("give exactly one of 'model', 'clip' and 'open_clip'")
        own = (
            self.recipe.select_on != "last"
            or self.recipe.keep_epochs
            or self.recipe.has_soft_labels
        )
        if self.clip is not None and own:
            raise ValueError("recipe: a CLIP keeps its last epoch and mixes no labels; drop them")
        if self.checkpoint is not None and self.model is None:
            raise ValueError("checkpoint: goes with 'model', not with 'clip' or 'open_clip'")
        return self

    @model_validator(mode="after")
    def check_trained_or_loaded(self):
        """Checks that a model from a file is not trained, and that only such a model resizes."""
        for part in FILE_FIELDS:
            if getattr(self, part) is None:
                continue
            if self.recipe != Recipe() or "objective" in self.model_fields_set:
                raise ValueError(f"{part}: is not trained; drop objective, recipe and epochs")
            if self.normalise != "dataset":
                what, file = FILE_FIELDS[part]
                raise ValueError(f"normalise: {what} has its own; give {file}.mean, .std")
        if self.resize and self.checkpoint is None and self.open_clip is None:
            raise ValueError("resize: goes with 'checkpoint' or 'open_clip'; drop it")
        return self
