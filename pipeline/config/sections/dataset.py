"""The section of data sets."""

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from pipeline.config.plugin_fields import Plugin, resolve_source
from pipeline.schema import NonNegativeInt, Section, make_nested_error


class DatasetSpec(Section):
    """A data set as its job makes it: the source without the places of its files."""

    source: str | Plugin
    train: NonNegativeInt
    val: NonNegativeInt = 0
    test: NonNegativeInt = 0


class DatasetSettings(DatasetSpec):
    """Images: the first ``train`` training rows, the next ``val``, the first ``test`` test rows.

    A set that no model is tested on, such as one of generated images, does without test rows; one
    that models are only tested on, such as ImageNet-A, without training rows.
    """

    source: Annotated[str | dict[str, dict], BeforeValidator(resolve_source)]

    @model_validator(mode="after")
    def check_row_counts(self):
        """A set has rows, and validation rows only beside training rows."""
        if not self.train and (self.val or not self.test):
            raise make_nested_error("train: 0 images; ask for some, or for test images alone")
        return self
