"""The section of data sets."""

from typing import Annotated

from pydantic import BeforeValidator

from pipeline.plugged import sourced
from pipeline.strict import Count, Positive, Section


class Dataset(Section):
    """Images: the first ``train`` training rows, the next ``val``, the first ``test`` test rows.

    A set that no model is tested on, such as one of generated images, does without test rows.
    """

    source: Annotated[str | dict[str, dict], BeforeValidator(sourced)]
    train: Positive
    val: Count = 0
    test: Count = 0
