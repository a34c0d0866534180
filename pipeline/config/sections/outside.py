"""Files from elsewhere, as sections name them: a place, which no key holds, and a sum."""

from typing import Annotated

from pydantic import StringConstraints, model_validator

from pipeline.schema import Number, Rate, Section, added

Sha256 = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, pattern="^[0-9a-fA-F]{64}$")
]
Colours = tuple[Number, Number, Number]
Deviations = tuple[Rate, Rate, Rate]


class FileSpec(Section):
    """A file by its sum, as specs name it."""

    sha256: Sha256


class File(FileSpec):
    """A file. The sum names it in the key; where it lies does not count."""

    path: str


class CheckpointSpec(FileSpec):
    """Weights from elsewhere by their sum, as specs name them.

    Without mean and std the file's own normalisation holds, and without one in the file, none.
    """

    mean: Colours | None = None
    std: Deviations | None = None

    @model_validator(mode="after")
    def both(self):
        """One of mean and std alone is a slip."""
        return with_both(self)


class Checkpoint(CheckpointSpec):
    """Weights from elsewhere. The sum names them in the key; where the file lies does not count.

    ``classes`` are the names in the order of the file's head, to be compared with the data set's.
    """

    path: str
    classes: tuple[str, ...] | None = added(None)


class Pretrained(Section):
    """Weights of an open_clip model.

    ``tag`` is open_clip's name for whose weights they are (`openai`, `laion2b_s32b_b82k`): it gives
    mean and std, and must agree with the model about QuickGELU. Nothing is downloaded.
    """

    path: str
    sha256: Sha256
    tag: str | None = None
    mean: Colours | None = None
    std: Deviations | None = None

    @model_validator(mode="after")
    def both(self):
        """One of mean and std alone is a slip."""
        return with_both(self)


def with_both(section: Section) -> Section:
    """The section, if it has mean and std or neither.

    Raises:
        ValueError: it has one of them.
    """
    if (section.mean is None) != (section.std is None):
        raise ValueError("give 'mean' and 'std', or neither")
    return section
