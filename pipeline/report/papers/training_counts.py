"""What DAD's Table 7 counts in a step of training: the attack's steps, and the student's passes."""

from pipeline.planning.step_cost import PassCounter
from pipeline.report.papers.metrics import Score
from pipeline.report.papers.settings import Setting
from pipeline.schema import make_plugin

REVISION = 1

COUNTED = ("attack_steps", "budget")  # columns that are no measurements
BANK_FIELDS = ("x_adv", "y_adv", "t_clean", "t_adv")


def count_training(setting: Setting, metric: str) -> Score | None:
    """A counted column's value; None for a model that was not trained here.

    The budget is the student's passes of a step over those of standard training.
    """
    if not setting.objective:
        return None
    if metric == "attack_steps":
        return Score(setting.bank_steps + setting.options.get("steps", 0))
    plain = count_passes(setting, "natural", {})
    return Score(count_passes(setting, setting.objective, setting.options) / plain)


def count_passes(setting: Setting, objective: str, options: dict) -> float:
    """The student's passes in a step of an objective, its teachers' outputs being stored."""
    made = make_plugin("objectives", "Objective", objective, options)
    return PassCounter(tuple(setting.teachers)).measure_step(made, BANK_FIELDS).student
