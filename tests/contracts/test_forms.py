"""Files that are no valid plug-in: each is one line with file, line and remedy, in every plan.

A configuration that does not use the file is planned as if it were not there.
"""

import pytest

from pipeline.contracts.source_checks import SINGULAR
from pipeline.discovery import load_plugin, use_plugin_folders
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.own import SMALLEST, mine, write
from tests.planning.test_plan import edited

__all__ = ["mine"]

OBJECTIVE, ATTACK, LOSS = (SMALLEST[k] for k in ("objectives", "attacks", "generator_losses"))
NETWORK, DATA = SMALLEST["architectures"], SMALLEST["datasets"]
JUDGED = """from dataclasses import dataclass
from pipeline.core.attack_protocol import AttackPoint, predict_classes


@dataclass(frozen=True)
class Attack:
    def __call__(self, model, x, y, seed):
        return {AttackPoint("bad"): predict_classes(model, x)}
"""
FAULTS = {
    "no class": ("objectives", "x = 1\n", "bad.py:1: has no class 'Objective'"),
    "no dataclass": (
        "objectives",
        OBJECTIVE.replace("@dataclass(frozen=True)\n", ""),
        "bad.py:9: Objective is no dataclass; write @dataclass",
    ),
    "not frozen": (
        "objectives",
        OBJECTIVE.replace("(frozen=True)", ""),
        "bad.py:10: Objective can be changed; write @dataclass",
    ),
    "return": (
        "objectives",
        OBJECTIVE.replace("yield {", "return {"),
        "bad.py:22: Objective.__call__ returns its terms; write 'yield'",
    ),
    "neither": ("objectives", OBJECTIVE.replace("yield {", "{"), "has no yield; write 'yield'"),
    "no needs": (
        "objectives",
        OBJECTIVE.replace("def needs", "def wants"),
        "bad.py:10: has no Objective.needs(self)",
    ),
    "no call": (
        "objectives",
        OBJECTIVE.replace("__call__", "run"),
        "bad.py:10: has no Objective.__call__(self, roles, batch)",
    ),
    "wrong arguments": (
        "objectives",
        OBJECTIVE.replace("(self, roles, batch)", "(self, student, batch)"),
        "takes (self, student, batch); write Objective.__call__(self, roles, batch)",
    ),
    "no default": (
        "objectives",
        OBJECTIVE.replace("weight: float = 0.5", "weight: float"),
        "Objective.weight has no default",
    ),
    "no type": (
        "objectives",
        OBJECTIVE.replace("weight: float = 0.5", "weight = 0.5"),
        "bad.py:13: Objective.weight has no type, so it is no option; write 'weight: float",
    ),
    "a whole float": (
        "objectives",
        OBJECTIVE.replace("float = 0.5", "float = 1"),
        "Objective.weight is a float; write 1.0",
    ),
    "a tensor": (
        "objectives",
        OBJECTIVE.replace("float = 0.5", "nn.Module = None").replace(
            "from dataclasses", "from torch import nn\nfrom dataclasses"
        ),
        "Objective.weight: no configuration can give",
    ),
    "unknown type": (
        "objectives",
        "from __future__ import annotations\n" + OBJECTIVE.replace("float = 0.5", "Tensor = 0.5"),
        "the type of a field is unknown (name 'Tensor' is not defined)",
    ),
    "type of nothing": (
        "objectives",
        OBJECTIVE.replace(": float = 0.5", ": 'math.nothing' = 0.5").replace(
            "from dataclasses", "import math\nfrom dataclasses"
        ),
        "the type of a field is unknown (module 'math' has no attribute 'nothing')",
    ),
    "type cut off": (
        "objectives",
        OBJECTIVE.replace(": float = 0.5", ": 'float |' = 0.5"),
        "bad.py:10: Objective: the type of a field is unknown (Forward reference must be",
    ),
    "default of another type": (
        "objectives",
        OBJECTIVE.replace("float = 0.5", "float = 'half'"),
        "students.kd.objective: my_methods/objectives/bad.py:10: Objective.weight: its default "
        "'half' does not fit its type; change one of them",
    ),
    "ends Python": (
        "objectives",
        f"import sys\n\nsys.exit(3)\n{OBJECTIVE}",
        "bad.py:3: ends Python when it is imported; put that under 'if __name__ == ",
    ),
    "syntax": ("objectives", "def f(:\n", "bad.py:1: SyntaxError: "),
    "no Python": ("objectives", "\0", "bad.py:1: SyntaxError: "),
    "import": (
        "objectives",
        "\nimport nowhere\n",
        "bad.py:2: ModuleNotFoundError: No module named 'nowhere'",
    ),
    "own import": (
        "objectives",
        "from my_methods.objectives.tiny_objective import Objective\n",
        "bad.py:1: imports 'my_methods.objectives.tiny_objective' by a name that keys do not see",
    ),
    "raises": ("objectives", "1 / 0\n", "bad.py:1: ZeroDivisionError: division by zero"),
    "needs in words": (
        "objectives",
        OBJECTIVE.replace('return ("label", "t_clean")', 'return "label"'),
        "bad.py: needs() gives 'label' (str); a tuple of words is expected",
    ),
    "unknown need": (
        "objectives",
        OBJECTIVE.replace('"t_clean")', '"clean")'),
        "bad.py: needs() names 'clean', which is unknown; known: discretizer,",
    ),
    "needs raises": (
        "objectives",
        OBJECTIVE.replace('return ("label', 'return self.nothing, ("label'),
        "bad.py:17: AttributeError: 'Objective' object has no attribute 'nothing'",
    ),
    "no judge": ("attacks", JUDGED, "bad.py:7: Attack.__call__ gives back predictions, but has no"),
    "attack's arguments": (
        "attacks",
        ATTACK.replace("model, x, y, seed", "net, images"),
        "takes (self, net, images); write Attack.__call__(self, model, x, y, seed)",
    ),
    "attack without class": ("attacks", "", "bad.py:1: has no class 'Attack'"),
    "no build": (
        "architectures",
        "x = 1\n",
        "bad.py:1: has no function 'build(classes, channels)'",
    ),
    "build's arguments": (
        "architectures",
        NETWORK.replace("build(classes", "build(count"),
        "build has an argument 'count'; write build(classes, channels)",
    ),
    "no features": (
        "architectures",
        NETWORK.replace("def features", "def forward"),
        "bad.py: the network has no method 'features', which gives penultimate features (B,D)",
    ),
    "no network": (
        "architectures",
        NETWORK.replace("return Network(classes, channels)", "return None"),
        "bad.py: build gives None (NoneType); an nn.Module is expected",
    ),
    "build of no arguments": (
        "architectures",
        "build = dict\n",
        "bad.py:1: build has no argument 'classes'",
    ),
    "no pattern": (
        "architectures",
        f"NAME_PATTERN = '['\n{NETWORK}",
        "bad.py:1: NAME_PATTERN '[' is no regular expression (unterminated character set",
    ),
    "a number for a pattern": (
        "architectures",
        f"NAME_PATTERN = 5\n{NETWORK}",
        "bad.py:1: NAME_PATTERN 5 is no regular expression",
    ),
    "two dimensions": (
        "datasets",
        DATA.replace("SHAPE = (3, 32, 32)", "SHAPE = (32, 32)"),
        "SHAPE is missing or not (channels, height, width)",
    ),
    "no classes": ("datasets", DATA.replace("CLASSES", "NAMES"), "CLASSES is missing"),
    "no load": ("datasets", DATA.replace("def load", "def read"), "has no function 'load(split,"),
    "loss yields": (
        "generator_losses",
        LOSS.replace("return {", "yield {"),
        "bad.py:14: Loss.__call__ yields; write 'return' before the dict",
    ),
    "loss without class": ("generator_losses", "", "bad.py:1: has no class 'Loss'"),
}
GENERATOR = {"teacher": "natural", "model": "resnet8-s2-w8", "losses": "bad"}
USES = {  # folder -> a path in the small configuration and the value that uses plug-in `bad`
    "objectives": ("students.kd.objective", "bad"),
    "attacks": ("suites.linf.attacks", ["clean", "bad"]),
    "architectures": ("students.kd.model", "bad"),
    "datasets": ("datasets.tiny.source", "bad"),
    "generator_losses": ("generators.one", {**GENERATOR, "recipe": {"augment": "none"}}),
}


def plugged(path: str = "store", value: object = "store") -> dict:
    """The small configuration with plug-ins and one key set."""
    return {**edited(path, value), "plugins": "my_methods/"}


@pytest.mark.parametrize("case", FAULTS)
def test_a_file_that_is_no_plug_in_is_one_line(case, mine):
    folder, text, words = FAULTS[case]
    write(mine, f"{folder}/bad.py", text)
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(plugged(*USES[folder]))
    message = str(caught.value)
    assert words in message
    assert "my_methods/" in message
    assert "\n" not in message
    make_plan_from_dict(plugged())  # without a use of it


@pytest.mark.parametrize("case", ["no class", "no judge", "no build", "no load", "loss yields"])
def test_what_is_missing_comes_with_the_way_to_an_example(case, mine):
    folder, text, _ = FAULTS[case]
    write(mine, f"{folder}/bad.py", text)
    use_plugin_folders([mine])
    line = f"check --example {SINGULAR[folder]}' prints the smallest valid file"
    with pytest.raises(RetortError, match=line):
        load_plugin(folder, "bad")


def test_the_smallest_files_are_planned(mine):
    raw = plugged("students.kd.objective", "tiny_objective")
    raw["students"]["kd"]["model"] = "tiny_architecture"
    raw["suites"]["linf"]["attacks"] = [{"tiny_attack": {"eps": "4/255", "n_eval": 3}}]
    raw["datasets"]["mine"] = {"source": "tiny_dataset", "train": 40, "test": 10}
    plan = make_plan_from_dict(raw)
    names = {m for e in plan.artefacts.values() for m in e.code if m.startswith("retort_plugins")}
    assert names == {
        "retort_plugins.architectures.tiny_architecture",
        "retort_plugins.attacks.tiny_attack",
        "retort_plugins.datasets.tiny_dataset",
        "retort_plugins.objectives.tiny_objective",
    }


def test_what_a_file_leaves_out_is_filled_in(mine):
    use_plugin_folders([mine])
    attack = load_plugin("attacks", "tiny_attack").Attack()
    assert (attack.n_eval, attack.chunk, attack.eps) == (None, 500, 8 / 255)
    family = load_plugin("architectures", "tiny_architecture")
    assert family.NAME_PATTERN.fullmatch("tiny_architecture")
    assert family.build("tiny_architecture", 7).linear.out_features == 7
    assert load_plugin("datasets", "tiny_dataset").SIZES == {"train": None, "test": None}
    loss = load_plugin("generator_losses", "tiny_generator_loss").Loss()
    assert (loss.needs(), loss.rounds) == (("teacher",), False)
