"""External files in sections: a path, which is in no key, and a sum, which is."""

from typing import Annotated

from pydantic import StringConstraints, model_validator

from pipeline.schema import Number, PositiveFloat, Section, make_neutral_field

Sha256 = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, pattern="^[0-9a-fA-F]{64}$")
]
ChannelMeans = tuple[Number, Number, Number]
ChannelStds = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class FileSpec(Section):
    """An external file in a spec, by its sum."""

    sha256: Sha256


class ExternalFile(FileSpec):
    """An external file in a section. Its sum is in the key, its path is not."""

    path: str


class CheckpointSpec(FileSpec):
    """External weights in a spec, by their sum.

    ``take`` names one of the file's sets of weights, such as `model_ema`; it is needed only where
    several fit. Without mean and std, the file's own normalisation is used, or none if the file has
    none.
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

    ``classes`` are names in the order of the file's head, to be compared with the data set's.
    """

    path: str
    classes: tuple[str, ...] | None = make_neutral_field(None)


class OpenClipWeights(Section):
    """Weights of an open_clip model.

    ``tag`` is open_clip's name of the weights (`openai`, `laion2b_s32b_b82k`). It determines mean
    and std, and must agree with the model about QuickGELU. Nothing is downloaded. ``take`` is as
    in ``CheckpointSpec``.
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
