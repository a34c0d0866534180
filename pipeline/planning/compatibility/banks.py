"""Checks whether a bank gives what its students read, before anything is loaded."""

from pipeline.config.reader import Config
from pipeline.config.recipe import Recipe
from pipeline.config.sections.bank import BankSettings
from pipeline.config.sections.student import StudentSettings
from pipeline.errors import COMMAND, RetortError


def changes_pixels(recipe: Recipe) -> bool:
    """Whether a recipe augments or mixes images."""
    drawn = recipe.rand_augment or recipe.erase or recipe.mixup or recipe.cutmix
    return bool(recipe.augment != "none" or drawn)


def list_bank_fields(bank: BankSettings, recipe: Recipe) -> tuple[str, ...]:
    """Fields of a bank that an objective may read; outputs only if pixels stay as stored."""
    samples = bank.has_samples
    given = ("x_adv", "y_adv", "paired") if samples else ()
    mixes_views = bank.views is not None and (bank.views.mixup or bank.views.cutmix)
    if samples and not mixes_views:
        given = (*given, "mixed_together")
    if changes_pixels(recipe):
        return given
    return (
        *given,
        *(("t_clean",) if bank.stores_clean_outputs else ()),
        *(("t_adv",) if samples else ()),
    )


def check_student_bank(config: Config, where: str, student: StudentSettings) -> None:
    """Raise if a bank and its student do not fit: data set, teacher, encoding, augmentation."""
    bank, name = config.banks[student.bank], student.bank
    if bank.dataset != student.dataset:
        raise RetortError(
            f"{where}.bank: '{name}' was made from data set '{bank.dataset}', the "
            f"student's is '{student.dataset}'; name the same one"
        )
    for role, teacher in student.teachers.items():
        if len(student.teachers) == 1 and teacher != bank.teacher:
            raise RetortError(
                f"{where}.teachers.{role}: bank '{name}' was made by teacher "
                f"'{bank.teacher}', not by '{teacher}'; name '{bank.teacher}', or drop the bank"
            )
    if bank.encoding == "tokens":
        raise RetortError(
            f"{where}.bank: '{name}' holds tokens without pixels; plan the same bank with another "
            f"'encoding' and fill it by '{COMMAND} bank decode'"
        )
    if bank.views is not None and changes_pixels(student.recipe):
        raise RetortError(
            f"{where}.recipe: bank '{name}' has views of its own; set augment: none and drop "
            "rand_augment, mixup and cutmix, or drop the bank's 'views'"
        )
    if not bank.has_samples and changes_pixels(student.recipe):
        raise RetortError(
            f"{where}.recipe: bank '{name}' holds outputs on images as they are; set augment: none "
            "and drop rand_augment, mixup and cutmix, or give the bank 'views'"
        )
