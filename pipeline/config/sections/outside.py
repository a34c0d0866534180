"""External files in sections: a path, which is in no key, and a sum, which is."""

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from pipeline.schema import Number, PositiveFloat, Section, make_neutral_field

Sha256 = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, pattern="^[0-9a-fA-F]{64}$"),
    Field(description="the file's sha256, 64 hexadecimal digits,"),
]
ChannelMeans = tuple[Number, Number, Number]
ChannelStds = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class FileSpec(Section):
    """An external file in a spec, by its sum.

    Attributes:
        sha256: the file's sum, 64 hexadecimal digits; it is checked, and it is in the key.
    """

    sha256: Sha256


class ExternalFile(FileSpec):
    """An external file in a section. Its sum is in the key, its path is not.

    Attributes:
        path: the file; a relative path starts where the run starts. It is not in the key.
    """

    path: str


class CheckpointSpec(FileSpec):
    """External weights in a spec, by their sum.

    Without mean and std, the file's own normalisation is used, or none if the file has none.

    Attributes:
        take: one of the file's sets of weights, such as `model_ema`; needed only where several fit.
        mean: mean of each channel by which the weights' images were normalised; in pixels of [0,1].
        std: standard deviation of each channel; in pixels of [0,1].
    """

    take: str | None = make_neutral_field(None)
    mean: ChannelMeans | None = None
    std: ChannelStds | None = None

    @model_validator(mode="after")
    def check_mean_and_std(self):
        """Checks that mean and std are given together."""
        return require_mean_with_std(self)


class ExternalCheckpoint(CheckpointSpec):
    """External weights in a section. Their sum is in the key, the file's path is not.

    Attributes:
        path: the file; a relative path starts where the run starts. It is not in the key.
        classes: names of the classes in the order of the file's head, to be compared with the data
            set's.
    """

    path: str
    classes: tuple[str, ...] | None = make_neutral_field(None)


class OpenClipWeights(Section):
    """Weights of an open_clip model. Nothing is downloaded.

    Attributes:
        path: the file; a relative path starts where the run starts. It is not in the key.
        sha256: the file's sum, 64 hexadecimal digits; it is checked, and it is in the key.
        tag: open_clip's name of the weights (`openai`, `laion2b_s32b_b82k`); it tells mean and std,
            and must agree with the model about QuickGELU.
        take: one of the file's sets of weights, such as `model_ema`; needed only where several fit.
        mean: mean of each channel in place of the tag's; in pixels of [0,1].
        std: standard deviation of each channel in place of the tag's; in pixels of [0,1].
    """

    path: str
    sha256: Sha256
    take: str | None = make_neutral_field(None)
    tag: str | None = None
    mean: ChannelMeans | None = None
    std: ChannelStds | None = None

    @model_validator(mode="after")
    def check_mean_and_std(self):
        """Checks that mean and std are given together."""
        return require_mean_with_std(self)


def require_mean_with_std(section: Section) -> Section:
    """The section, checked to have both mean and std or neither.

    Raises:
        ValueError: it has only one of them.
    """
    if (section.mean is None) != (section.std is None):
        raise ValueError("give 'mean' and 'std', or neither")
    return section
