"""What a plan asks of a plug-in beyond its form; a wrong answer is one line, in `cost` too."""

import pytest
import yaml

from pipeline.cli.main import main
from tests.contracts.test_forms import ATTACK, DATA, LOSS, OBJECTIVE, USES, plugged
from tests.helpers.own import mine, write

__all__ = ["mine"]

IMAGES = """from dataclasses import dataclass


@dataclass(frozen=True)
class Images:
    count: int = 1
    shape = (3, 32, 32)
    classes = ("a", "b")

    def load(self, split, cache):
        return None
"""

FAULTS = {
    "refuses its defaults": (
        "objectives",
        OBJECTIVE.replace(
            "    def needs",
            "    def __post_init__(self):\n        raise ValueError('odd')\n\n    def needs",
        ),
        "students.kd.objective.bad: odd",
    ),
    "n_eval in words": (
        "attacks",
        ATTACK.replace("    eps:", "    n_eval: str = 'all'\n    eps:"),
        "Attack.n_eval is a number of images; write 'n_eval: int = …'",
    ),
    "n_eval of 0": (
        "attacks",
        ATTACK.replace("    eps:", "    n_eval: int = 0\n    eps:"),
        "suites.linf.attacks.1.bad.n_eval: 0 is below 1",
    ),
    "eps in 0 to 255": (
        "attacks",
        ATTACK.replace("eps: float = 8 / 255", "eps: float = 8.0"),
        "suites.linf.attacks.1.bad.eps: 8 is more than 1, the whole range of a pixel; did you mean",
    ),
    "count_passes's arguments": (
        "attacks",
        ATTACK + "\n    def count_passes(self):\n        return 1\n",
        "Attack.count_passes takes (self); write Attack.count_passes(self, shape)",
    ),
    "passes in words": (
        "attacks",
        ATTACK + "\n    def count_passes(self, shape):\n        return 'many'\n",
        "suites.linf.attacks.1.bad.count_passes: gives 'many'; a number above 0 is expected",
    ),
    "explain_misfit's arguments": (
        "attacks",
        ATTACK + "\n    def explain_misfit(self):\n        return ''\n",
        "takes (self); write Attack.explain_misfit(self, shape, class_count)",
    ),
    "explain_variant's arguments": (
        "attacks",
        ATTACK + "\n    def explain_variant(self):\n        return ''\n",
        "takes (self); write Attack.explain_variant(self, shape, class_count)",
    ),
    "check_test_images's arguments": (
        "attacks",
        ATTACK + "\n    def check_test_images(self, x):\n        return None\n",
        "takes (self, x); write Attack.check_test_images(self, images, labels)",
    ),
    "a file that nothing finds": (
        "attacks",
        ATTACK.replace("import dataclass", "import dataclass, field").replace(
            "    eps:", "    path: str = field(default='', metadata={'outside': True})\n    eps:"
        ),
        "Attack.path lies outside; write Attack.find_files(self, data)",
    ),
    "loss's needs in words": (
        "generator_losses",
        LOSS.replace(
            "    def __call__", "    def needs(self):\n        return 'x'\n\n    def __call__"
        ),
        "bad.py: needs() gives 'x' (str); a tuple of words is expected",
    ),
    "loss's unknown need": (
        "generator_losses",
        LOSS.replace(
            "    def __call__", "    def needs(self):\n        return ('x',)\n\n    def __call__"
        ),
        "bad.py: needs() names 'x', which is unknown; known: student, teacher",
    ),
    "prepare's arguments": (
        "generator_losses",
        LOSS.replace(
            "    def __call__", "    def prepare(self):\n        pass\n\n    def __call__"
        ),
        "Loss.prepare takes (self); write Loss.prepare(self, batch)",
    ),
    "rows in words": (
        "datasets",
        DATA.replace("SHAPE =", "SIZES = {'train': 'many', 'test': 1}\nSHAPE ="),
        "datasets.tiny.source: my_methods/datasets/bad.py: sizes: train: a number of rows, or None",
    ),
    "only training rows": (
        "datasets",
        IMAGES.replace("shape =", "sizes = {'train': 5}\n    shape ="),
        "bad.py: sizes does not say the rows of 'train' and 'test'",
    ),
    "shape of two": (
        "datasets",
        IMAGES.replace("(3, 32, 32)", "(32, 32)"),
        "bad.py: shape is (32, 32); (channels, height, width) is expected",
    ),
    "classes raise": (
        "datasets",
        IMAGES.replace('classes = ("a", "b")', "classes = property(lambda self: 1 / 0)"),
        "bad.py:8: ZeroDivisionError: division by zero",
    ),
    "load's arguments": (
        "datasets",
        IMAGES.replace("(self, split, cache)", "(self)"),
        "Images.load takes (self); write Images.load(self, split, cache)",
    ),
    "find's arguments": (
        "datasets",
        IMAGES + "\n    def find(self):\n        return None\n",
        "Images.find takes (self); write Images.find(self, cache, counts)",
    ),
}


@pytest.mark.parametrize("verb", ["plan", "cost"])
@pytest.mark.parametrize("case", FAULTS)
def test_a_wrong_answer_is_one_line(case, verb, mine, capsys):
    folder, text, words = FAULTS[case]
    write(mine, f"{folder}/bad.py", text)
    write(mine.parent, "experiment.yaml", yaml.safe_dump(plugged(*USES[folder])))
    rate = ["--gflops", "1"] if verb == "cost" else []
    assert main([verb, "--configfile", "experiment.yaml", *rate]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: experiment.yaml:")
    assert words in error
