"""The section of data sets."""

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from pipeline.config.plugin_fields import Plugin, sourced
from pipeline.schema import Count, Section, below


class DatasetSpec(Section):
    """A data set as its job makes it: the source without the places of its files."""

    source: str | Plugin
    train: Count
    val: Count = 0
    test: Count = 0


class Dataset(DatasetSpec):
    """Images: the first ``train`` training rows, the next ``val``, the first ``test`` test rows.

    A set that no model is tested on, such as one of generated images, does without test rows; one
    that models are only tested on, such as ImageNet-A, without training rows.
    """

    source: Annotated[str | dict[str, dict], BeforeValidator(sourced)]

    @model_validator(mode="after")
    def some(self):
        """A set has rows, and validation rows only beside training rows."""
        if not self.train and (self.val or not self.test):
            raise below("train: 0 images; ask for some, or for test images alone")
        return self
