"""Files from elsewhere, as sections name them: a place, which no key holds, and a sum."""

from typing import Annotated

from pydantic import StringConstraints, model_validator

from pipeline.schema import Number, PositiveFloat, Section, make_neutral_field

Sha256 = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, pattern="^[0-9a-fA-F]{64}$")
]
ChannelMeans = tuple[Number, Number, Number]
ChannelStds = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class FileSpec(Section):
    """A file by its sum, as specs name it."""

    sha256: Sha256


class ExternalFile(FileSpec):
    """A file. The sum names it in the key; where it lies does not count."""

    path: str


class CheckpointSpec(FileSpec):
    """Weights from elsewhere by their sum, as specs name them.

    Without mean and std the file's own normalisation holds, and without one in the file, none.
    """

    mean: ChannelMeans | None = None
    std: ChannelStds | None = None

    @model_validator(mode="after")
    def check_mean_and_std(self):
        """One of mean and std alone is a slip."""
        return require_mean_with_std(self)


class ExternalCheckpoint(CheckpointSpec):
    """Weights from elsewhere. The sum names them in the key; where the file lies does not count.

    ``classes`` are the names in the order of the file's head, to be compared with the data set's.
    """

    path: str
    classes: tuple[str, ...] | None = make_neutral_field(None)


class OpenClipWeights(Section):
    """Weights of an open_clip model.

    ``tag`` is open_clip's name for whose weights they are (`openai`, `laion2b_s32b_b82k`): it gives
    mean and std, and must agree with the model about QuickGELU. Nothing is downloaded.
    """

    path: str
    sha256: Sha256
    tag: str | None = None
    mean: ChannelMeans | None = None
    std: ChannelStds | None = None

    @model_validator(mode="after")
    def check_mean_and_std(self):
        """One of mean and std alone is a slip."""
        return require_mean_with_std(self)


def require_mean_with_std(section: Section) -> Section:
    """The section, if it has mean and std or neither.

    Raises:
        ValueError: it has one of them.
    """
    if (section.mean is None) != (section.std is None):
        raise ValueError("give 'mean' and 'std', or neither")
    return section
