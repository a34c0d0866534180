"""The configuration's sections: schema, defaults and documentation in one place, a file a kind.

Fields marked ``added(…)`` came after the first release; they stay out of the keys while they
have their neutral default, so that a new field does not rename what exists.
"""

from pipeline.sections.bank import Bank, BankAttack
from pipeline.sections.dataset import Dataset
from pipeline.sections.discretizer import Adversarial, Discretizer, Perceptual
from pipeline.sections.generator import Generator
from pipeline.sections.outside import Checkpoint, File, Pretrained
from pipeline.sections.student import Student
from pipeline.sections.teacher import Clip, OpenClip, Teacher

__all__ = [
    "Adversarial",
    "Bank",
    "BankAttack",
    "Checkpoint",
    "Clip",
    "Dataset",
    "Discretizer",
    "File",
    "Generator",
    "OpenClip",
    "Perceptual",
    "Pretrained",
    "Student",
    "Teacher",
]
