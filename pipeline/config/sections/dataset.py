"""The section of data sets."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WrapValidator, model_validator

from pipeline.config.plugin_fields import Plugin, resolve_source
from pipeline.schema import NonNegativeInt, Section, make_nested_error, make_neutral_field

ALL = "all"
COUNT_WORDS = "a number of images, 'all', or a share such as 10%"
WHAT_A_COUNT_IS = "a number of images, 'all', or a share such as 10% is expected"
SHARE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def read_count(value: Any, handler: Any) -> int | str:
    """A number of images, "all", or a share such as "10%", which the plan turns into a number."""
    if value == ALL:
        return value
    if isinstance(value, bool):
        raise ValueError(WHAT_A_COUNT_IS)
    if not isinstance(value, str):
        return handler(value)
    share = SHARE_PATTERN.fullmatch(value.strip())
    if share and float(share[1]) <= 100:
        return f"{share[1]}%"
    if share or not value.strip().isdecimal():
        raise ValueError(WHAT_A_COUNT_IS)
    return handler(value)


def keep_count(count: int | str) -> int | str:
    """A count as it was given, for a dump of the section."""
    return count


Count = Annotated[
    NonNegativeInt,
    WrapValidator(read_count),
    PlainSerializer(keep_count),
    Field(description=COUNT_WORDS),
]


class DatasetSpec(Section):
    """The spec of a data set; its source has no paths of files.

    Attributes:
        source: where the images come from: a source, with its options.
        train: number of training images: the first rows of the source.
        val: number of validation images: the training rows after those; `select_on: val` needs
            some.
        test: number of test images: the first test rows of the source.
        stratified: whether the rows are in an order of which every stretch holds each class in
            proportion; a source without test images then has them cut from its training images. A
            share that is cut from the training images sets it.
        on_bad_file: whether files that are no images stop the job, or are left out.
    """

    source: str | Plugin
    train: NonNegativeInt
    val: NonNegativeInt = 0
    test: NonNegativeInt = 0
    stratified: bool = make_neutral_field(False)
    on_bad_file: Literal["stop", "skip"] = make_neutral_field("stop")


class DatasetSettings(DatasetSpec):
    """Images: the first ``train`` training rows, the next ``val``, the first ``test`` test rows.

    A count is a number, a share of the images ("10%") or "all". Left out, ``train`` and ``test``
    are all images and ``val`` those of a folder for validation; beside a number for ``train``, the
    others left out are 0. ``config.dataset_counts`` makes numbers of them.

    A data set on which no model is tested, such as one of generated images, needs no test rows. One
    on which models are only tested, such as ImageNet-A, needs no training rows.
    """

    source: Annotated[str | dict[str, dict], BeforeValidator(resolve_source)]
    train: Count | None = None
    val: Count | None = None
    test: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def fill_counts(cls, value: Any) -> Any:
        """Beside a number of training images, validation and test images are 0 unless given."""
        train = value.get("train") if isinstance(value, dict) else None
        is_number = isinstance(train, int | float) or (
            isinstance(train, str) and train.strip().isdecimal()
        )
        return {"val": 0, "test": 0, **value} if is_number else value

    @model_validator(mode="after")
    def check_row_counts(self):
        """Checks that there are rows, and validation rows only with training rows."""
        if self.train == 0 and (self.val or not self.test):
            raise make_nested_error("train: 0 images; ask for some, or for test images alone")
        return self
