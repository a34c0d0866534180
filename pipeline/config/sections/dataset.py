"""The section of data sets."""

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from pipeline.config.plugin_fields import Plugin, resolve_source
from pipeline.schema import NonNegativeInt, Section, make_nested_error


class DatasetSpec(Section):
    """The spec of a data set; its source has no paths of files.

    Attributes:
        source: where the images come from: a source, with its options.
        train: number of training images: the first rows of the source.
        val: number of validation images: the training rows after those; `select_on: val` needs
            some.
        test: number of test images: the first test rows of the source.
    """

    source: str | Plugin
    train: NonNegativeInt
    val: NonNegativeInt = 0
    test: NonNegativeInt = 0


class DatasetSettings(DatasetSpec):
    """Images: the first ``train`` training rows, the next ``val``, the first ``test`` test rows.

    A data set on which no model is tested, such as one of generated images, needs no test rows. One
    on which models are only tested, such as ImageNet-A, needs no training rows.
    """

    source: Annotated[str | dict[str, dict], BeforeValidator(resolve_source)]

    @model_validator(mode="after")
    def check_row_counts(self):
        """Checks that there are rows, and validation rows only with training rows."""
        if not self.train and (self.val or not self.test):
            raise make_nested_error("train: 0 images; ask for some, or for test images alone")
        return self
