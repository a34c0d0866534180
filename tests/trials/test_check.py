"""The verb `check`: the smallest files pass, and each way to be wrong is one line."""

from pathlib import Path

import pytest

from pipeline.cli import check_plugins
from pipeline.cli.main import main
from pipeline.config.dataset_source import has_options
from pipeline.contracts.source_checks import SINGULAR
from pipeline.discovery import list_builtin_names
from pipeline.trials.dataset import check_statement
from tests.helpers.own import SMALLEST, mine, refuse, write

__all__ = ["mine"]

OBJECTIVE, ATTACK, LOSS = (SMALLEST[k] for k in ("objectives", "attacks", "generator_losses"))
NETWORK, DATA = SMALLEST["architectures"], SMALLEST["datasets"]
BODY = "target, logits = get_clean_teacher_logits(roles, batch), roles.student(batch.x)"
JUDGED = """from dataclasses import dataclass
import torch
from pipeline.core.attack_protocol import AttackPoint, predict_classes

@dataclass(frozen=True)
class Attack:
    eps: float = 0.1

    def __call__(self, model, x, y, seed, judge=None):
        return {AttackPoint("bad", self.eps): predict_classes(judge or model, x)}
"""


def objective(old: str, new: str) -> tuple[str, str, str]:
    return "objectives", OBJECTIVE.replace(old, new)


def body(line: str) -> tuple[str, str]:
    """The smallest objective with one more line before its terms."""
    return objective(BODY, f"{BODY}\n        {line}")


def trained(role: str) -> tuple[str, str]:
    """The smallest objective, which says that it trains a teacher."""
    method = f'    def trains(self):\n        return (TrainedRole("{role}", 0.1),)\n\n'
    text = OBJECTIVE.replace("import get_clean", "import TrainedRole, get_clean")
    text = text.replace('"t_clean")', '"teacher")')
    return "objectives", text.replace("    def __call__", f"{method}    def __call__")


FAULTS = {
    "a scalar": (
        *objective(".mean(1)", ".mean()"),
        "bad.py: term 'distance': shape (), (4,) is expected, one value a sample; give one value",
    ),
    "two values a sample": (*objective(".square().mean(1)", ".square()"), "shape (4, 10), (4,) is"),
    "no dict": (*objective("yield {", "yield 3, {"), "bad.py: a dict of terms is expected, not a"),
    "a number": (
        *objective('"ce": cross', '"one": 1.0, "ce": cross'),
        "term 'one': a tensor of floats is expected, not 1.0 (float)",
    ),
    "no terms": (*body("return"), "bad.py: it yields no terms"),
    "not finite": (*objective("self.weight *", "float('nan') *"), "term 'distance' is not finite"),
    "detached": (*body("logits = logits.detach()"), "no term has a gradient: none depends on the"),
    "teacher's gradient": (
        "objectives",
        OBJECTIVE.replace(
            "get_clean_teacher_logits(roles, batch)", "roles.teacher(batch.x)"
        ).replace('"t_clean")', '"teacher")'),
        "a gradient reaches the teacher 'teacher'; call the teacher below torch.no_grad()",
    ),
    "trains nothing": (*trained("teacher"), "no gradient reaches the teacher 'teacher', which tr"),
    "trains another": (*trained("robust"), "trains() names 'robust', which needs() does not name"),
    "teacher's mode": (*body("[t.train() for t in roles.teachers.values()]"), "train or eval mode"),
    "images in place": (*body("batch.x.mul_(0.5)"), "the batch's x was changed in place"),
    "chance": (
        *body("target = target + target.new_empty(target.shape).normal_()"),
        "it draws from torch's global generator; give generator=batch.rng",
    ),
    "other samples": (
        *body("logits = logits - logits.mean(0)"),
        "a sample's term 'ce' depends on other samples; write needs_whole_batch = True",
    ),
    "no live teacher": (
        *objective("get_clean_teacher_logits(roles, batch)", "roles.teacher(batch.x).detach()"),
        "with a bank's stored outputs and no teacher: ",
    ),
    "raises": (*body("batch.nothing"), "bad.py:22: AttributeError: 'Batch' object has no"),
    "out of the ball": (
        "attacks",
        ATTACK.replace("self.eps *", "0.2 *"),
        "bad.py: an attacked image is 0.2 away from its own, farther than eps 0.03137",
    ),
    "out of range": ("attacks", ATTACK.replace(".clamp(0, 1)", ""), "not in [0,1]; clamp them"),
    "another shape": (
        "attacks",
        ATTACK.replace("clamp(0, 1)", "clamp(0, 1)[:1]"),
        "attacked images of shape (2, 3, 32, 32) are expected, not a float32 tensor of shape (1,",
    ),
    "nothing": ("attacks", ATTACK.replace("return (x", "0 * (x"), "are expected, not None (None"),
    "another's point": (
        "attacks",
        JUDGED.replace('Point("bad"', 'Point("pgd"'),
        "bad.py: a point names the attack 'pgd'; write AttackPoint('bad', …)",
    ),
    "another radius": (
        "attacks",
        JUDGED.replace("self.eps)", "0.2)"),
        "a point states eps 0.2, which is none of the attack's",
    ),
    "passes": (
        "attacks",
        ATTACK + "\n    def count_passes(self, shape):\n        return 0\n",
        "bad.py: count_passes: gives 0; a number above 0 is expected",
    ),
    "misfit": (
        "attacks",
        ATTACK + "\n    def explain_misfit(self, shape, class_count):\n        return 3\n",
        "bad.py: explain_misfit gives 3; a text is expected",
    ),
    "variant": (
        "attacks",
        ATTACK + "\n    def explain_variant(self, shape, class_count):\n        return 3\n",
        "bad.py: explain_variant gives 3; a text is expected",
    ),
    "images for predictions": (
        "attacks",
        JUDGED.replace("predict_classes(judge or model, x)", "x"),
        "predicted classes (2,) are expected, not a float32 tensor",
    ),
    "no judge's prediction": (
        "attacks",
        JUDGED.replace("judge or model", "model"),
        "the judge sees no images; predict with 'judge or model'",
    ),
    "attack's chance": (
        "attacks",
        JUDGED.replace(
            "        return",
            "        x = x + self.eps * torch.rand_like(x) * (1 - x)\n        return",
        ),
        "it draws from torch's global generator and does not restore it",
    ),
    "logits": (
        "architectures",
        NETWORK.replace("nn.Linear(16, classes)", "nn.Linear(16, 5)"),
        "logits (4, 3) are expected of 4 images, not a float32 tensor of shape (4, 5)",
    ),
    "no use": (
        "architectures",
        NETWORK.replace("self.linear =", "self.idle = nn.Linear(1, 1)\n        self.linear ="),
        "no finite gradient reaches the parameter network.idle.weight",
    ),
    "features": (
        "architectures",
        NETWORK.replace(".mean((2, 3))", "")
        .replace("(features)", "(features.mean((2, 3)))", 9)
        .replace("def head(self, features.mean((2, 3)))", "def head(self, features)"),
        "features (B,D) are expected, not a float32 tensor of shape (4, 16, 15, 15)",
    ),
    "others' images": (
        "architectures",
        NETWORK.replace("self.conv(x)", "self.conv(x - x.mean(0))"),
        "in eval mode an image's logits depend on the other images",
    ),
    "state": (
        "architectures",
        NETWORK.replace("self.linear(features)", "self.linear(features) + self.drawn").replace(
            "self.linear = nn", "self.drawn = nn.Linear(1, 1).bias.item()\n        self.linear = nn"
        ),
        "after a save its logits are others; keep all state in the state dict",
    ),
    "grey images": (
        "architectures",
        NETWORK.replace("Conv2d(channels", "Conv2d(3"),
        "RuntimeError: ",
    ),
    "no example": (
        "architectures",
        f'import re\n\nNAME_PATTERN = re.compile("bad-[0-9]+")\n{NETWORK}',
        "NAME_PATTERN 'bad-[0-9]+' does not fit 'bad'; give a NAME_EXAMPLE to try",
    ),
    "floats": ("datasets", DATA.replace("np.uint8", "np.float32"), "images are float32 (60, 3, 32"),
    "a class too many": ("datasets", DATA.replace("% 2", "% 3"), "a label is 2 or 0, outside 0 to"),
    "no labels": ("datasets", DATA.replace(", labels\n", "\n"), "images and labels are expected"),
    "lists": ("datasets", DATA.replace(", labels\n", ", list(labels)\n"), "gives labels as a list"),
    "sizes": (
        "datasets",
        DATA.replace("SHAPE =", 'SIZES = {"train": 50, "test": 60}\nSHAPE ='),
        "train: 60 rows, its sizes say 50",
    ),
    "loss is a scalar": (
        "generator_losses",
        LOSS.replace("1))}", "1)).mean()}"),
        "bad.py: term 'sure': shape (), (6,) is expected",
    ),
    "loss of no image": (
        "generator_losses",
        LOSS.replace(
            "self.weight * cross", "self.weight * batch.x.flatten(1)[0].sum() + 0 * cross"
        ),
        "no gradient reaches some of the images",
    ),
    "reads the student": (
        "generator_losses",
        LOSS.replace("cross_entropy(batch.logits,", "cross_entropy(batch.student(batch.x),"),
        "it reads the student, but needs() does not say so",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_way_to_be_wrong_is_one_line(case, mine):
    folder, text, words = FAULTS[case]
    assert text != SMALLEST[folder], "the test edits nothing"
    fault = refuse(mine, folder, "bad", text)
    assert words in fault
    assert "my_methods/" in fault
    assert f"check --example {SINGULAR[folder]}' prints the smallest valid file" in fault


def test_the_smallest_files_pass(mine, capsys):
    write(mine, "attacks/judged.py", JUDGED.replace('"bad"', '"judged"'))
    assert main(["check", "my_methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == sorted(lines)
    assert len(lines) == 6
    assert all(line.startswith("my_methods/") and line.endswith(".py: ok") for line in lines)


def test_the_rest_is_tried_where_one_is_wrong(mine, capsys):
    write(mine, "objectives/bad.py", "def f(:\n")
    assert main(["check", "my_methods"]) == 2
    told = capsys.readouterr()
    assert told.out.count(": ok\n") == 5
    assert "my_methods/objectives/bad.py:1: SyntaxError" in told.out
    assert told.err == "error: check: 1 of 6 plug-ins are not valid\n"


@pytest.mark.parametrize("kind", SINGULAR.values())
def test_the_smallest_file_is_printed(kind, capsys):
    assert main(["check", "--example", kind]) == 0
    assert capsys.readouterr().out == (check_plugins.EXAMPLES / f"{kind}.py").read_text()


def test_a_check_of_nothing_says_what_to_name(capsys):
    assert main(["check"]) == 2
    assert "name a folder of plug-ins, such as my_methods/, or --example" in capsys.readouterr().err


@pytest.mark.parametrize("name", [n for n in list_builtin_names("datasets") if not has_options(n)])
def test_our_data_sets_state_what_one_must(name):
    check_statement(name)


def test_examples_are_one_a_kind():
    files = {path.stem for path in Path(check_plugins.EXAMPLES).glob("*.py")} - {"__init__"}
    assert files == set(SINGULAR.values())
