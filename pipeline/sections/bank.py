"""The section of banks."""

from typing import Literal

from pydantic import model_validator

from pipeline.strict import Count, NonNegative, Positive, Section, Share


class BankAttack(Section):
    """DAD's perturbation around Q(x), in pixel space, on the teacher's cross-entropy."""

    norm: Literal["l2", "linf"] = "l2"
    eps: NonNegative = 0.1
    step: NonNegative = 0.1
    steps: Count = 1
    start_probability: Share = 0.8
    grad_path: Literal["identity", "ste"] = "identity"

    @model_validator(mode="after")
    def step_fits(self):
        """A step beyond the radius is a swapped pair of numbers, unless it is the only one."""
        if self.steps > 1 and self.step > self.eps:
            raise ValueError(f"step {self.step:g} > eps {self.eps:g}; are the two swapped?")
        return self


class Bank(Section):
    """Discretised adversarial samples and teacher outputs, made once for every student."""

    dataset: str
    teacher: str
    discretizer: str
    attack: BankAttack = BankAttack()
    reject: Literal["drop", "keep"] = "drop"
    shards: Positive = 8
    block: Positive = 128
