"""Networks and images that the tests of generators' losses look at: those of the trials."""

from pipeline.trials.generator_loss import CLASSES as CLASSES
from pipeline.trials.generator_loss import COUNT as COUNT
from pipeline.trials.generator_loss import STUDENT as STUDENT
from pipeline.trials.generator_loss import TEACHER as TEACHER
from pipeline.trials.generator_loss import make_images as images
from pipeline.trials.generator_loss import show_images as shown

__all__ = ["CLASSES", "COUNT", "STUDENT", "TEACHER", "images", "shown"]
