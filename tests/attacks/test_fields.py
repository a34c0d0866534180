"""Attacks' hyper-parameters that make no sense are refused by name."""

import pytest

from pipeline.attacks import clean, corruptions, cw_linf, fgsm, pgd


@pytest.mark.parametrize(
    ("module", "fields", "message"),
    [
        (fgsm, {"eps": -0.1}, "eps"),
        (
            fgsm,
            {"eps": (0.1, 8.0)},
            "eps: 8 is more than 1, the whole range of a pixel; did you mean 8/255",
        ),
        (pgd, {"eps": float("nan")}, "eps"),
        (pgd, {"step": 9 / 255}, "step"),
        (pgd, {"step": 0.0, "steps": 1}, "step"),
        (pgd, {"restarts": 0}, "restarts"),
        (cw_linf, {"eps": 1 / 255}, "step"),
        (cw_linf, {"chunk": 0}, "chunk"),
        (corruptions, {"names": ("smog",)}, "names.*smog"),
        (corruptions, {"severity": 6}, "severity"),
        (clean, {"n_eval": 0}, "n_eval"),
    ],
)
def test_wrong_fields_are_named(module, fields, message) -> None:
    with pytest.raises(ValueError, match=message):
        module.Attack(**fields)


def test_one_step_may_be_longer_than_the_radius() -> None:
    assert pgd.Attack(eps=0.01, steps=1, step=0.02).steps == 1
    assert pgd.Attack(eps=0.0).eps == 0
