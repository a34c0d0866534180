"""Configuration files: every fault is one line that begins with file and line."""

import subprocess
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from pipeline.cli.main import main
from pipeline.config.reader import read_config
from pipeline.config.sources import read_sources
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan, make_plan_from_files
from tests.helpers.graph import TINY, Folder, environment, text

BASE = TINY.read_text()
RSLAD = "{dataset: tiny, teacher: robust, model: resnet8-s2-w8, objective: {rslad: {steps: 2}}"
RSLAD_LINE = BASE[: BASE.index("  rslad: ")].count("\n") + 1


def line_of(tmp_path: Path, *contents: str | bytes, given: dict | None = None) -> str:
    """What is said of configuration files, called a.yaml, b.yaml, …, without their folder."""
    paths = [tmp_path / f"{letter}.yaml" for letter, _ in zip("abc", contents, strict=False)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RetortError) as caught:
        make_plan(read_config(*paths, given=given))
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{tmp_path}/", "")


FILES = {
    "seed: 0\nseed: 1\n": "a.yaml:2: seed: is there twice, first on line 1; delete or rename one",
    "students:\n  a:\n    objective: {kd: {alpha: 1, alpha: 2}}\n": (
        "a.yaml:3: students.a.objective.kd.alpha: is there twice, first on line 3; delete"
    ),
    "suites:\n  a: {attacks: [{pgd: {steps: 1,\n   steps: 2}}]}": (
        "a.yaml:3: suites.a.attacks.0.pgd.steps: is there twice, first on line 2"
    ),
    "students:\n\ta: 3\n": "a.yaml:2: is indented by a tab; indent by spaces",
    "run: {data: data}\nstudents\n  a: 3\n": "a.yaml:2: the colon after the key is missing",
    "seed: 0\nstore: a: b\n": "a.yaml:2: a colon where none may be; end the line above by one, or",
    "students: []\n": "a.yaml:1: students: a mapping {key: value} is expected (got an empty list)",
    "store: x\nseed\nrun: {}\n": "a.yaml:2: the colon after the key is missing; write 'key: value'",
    "seed: 0\nstudents: [\n": "a.yaml:3: not valid YAML: ",
    "seed: 'a\n": "a.yaml:2: not valid YAML: found unexpected end of stream; check this line",
    "seed: !!python/tuple [1]\n": "a.yaml:1: not valid YAML: could not determine a constructor",
    "students:\n  on: {}\n": (
        'a.yaml:2: students.on: YAML reads the name on as true or false; quote it: "on"'
    ),
    "students:\n  12: {}\n": "a.yaml:2: students.12: YAML reads the name 12 as a number; quote it",
    "students:\n  1.5: {}\n": "a.yaml:2: students.1.5: YAML reads the name 1.5 as a number; quote",
    "banks: {~: {}}": "a.yaml:1: banks.~: YAML reads the name ~ as nothing; quote it",
    "banks:\n  2024-01-02: {}": "a.yaml:2: banks.2024-01-02: YAML reads the name 2024-01-02 as a d",
    "teachers:\n  [a, b]: {}": "a.yaml:2: teachers: a list or mapping cannot be a key; use a text",
    "banks: {names: {010: a}}": "a.yaml:1: banks.names.010: YAML reads the name 010 as a number",
    "store: x\nseed: 2024-13-45\n": "a.yaml:2: seed: '2024-13-45' cannot be read as a date; quote",
    "students: &a\n  b: *a\n": "a.yaml:1: contains itself by an alias; drop it",
    "- a\n": "a.yaml: a mapping of sections is expected",
    "": "a.yaml: a mapping of sections is expected",
    "seed: 0\n---\nseed: 1\n": "a.yaml:2: not valid YAML: but found another document",
    "seed: 0\nstore: \x07\n": "a.yaml:2: the character 0x0007 is no text; delete it",
    "seed: a\n".encode("utf-16"): "a.yaml: is encoded in UTF-16; save it as UTF-8",
    "seed: a\n".encode("utf-32"): "a.yaml: is encoded in UTF-32; save it as UTF-8",
    "seed: a\n".encode("utf-16-le"): "a.yaml: is binary, or encoded in UTF-16; give a text in",
    b"\x89PNG\r\n\x1a\n\0\0": "a.yaml: is binary, or encoded in UTF-16; give a text in UTF-8",
    b"store: x\nseed: \xe4\n": "a.yaml:2: the byte 0xe4 is not UTF-8; save the file as UTF-8",
    "seed: 0\nstudents: {a: {}, b: 3}\n": "a.yaml:2: students.a.model: is missing; give a text",
    "seed: " + "[" * 2000: "a.yaml: is nested too deeply; write it flatter",
}


@pytest.mark.parametrize(("content", "start"), FILES.items())
def test_a_file_that_cannot_be_meant_is_named_with_its_line(content, start, tmp_path):
    assert line_of(tmp_path, content).startswith(start)


def test_aliases_that_stand_for_too_much_are_refused(tmp_path):
    rows = [f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 10) if i else 1}]" for i in range(9)]
    assert "its aliases stand for " in line_of(tmp_path, "\n".join(rows))


def test_a_byte_order_mark_and_class_numbers_are_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert read_config(path) == read_config(TINY)
    path.write_text("teachers: {a: {open_clip: {names: {0: cat, 1: dog}}}}")
    names = read_sources([path]).values["teachers"]["a"]["open_clip"]["names"]
    assert names == {0: "cat", 1: "dog"}


def test_merge_keys_take_the_place_of_what_they_merge(tmp_path):
    raw = "recipes:\n  a: &a\n    epochs: 0\n  b:\n    <<: *a\n    lr: 0\n"
    places = read_sources([write(tmp_path, raw)]).places["recipes"].below["b"].below
    assert places["epochs"].where.endswith(":3")
    assert places["lr"].where.endswith(":6")


def write(folder: Path, content: str) -> Path:
    """A configuration file with some content."""
    path = folder / "a.yaml"
    path.write_text(content)
    return path


CHANGES = {  # what stands in place of RSLAD's section -> what is said of it
    RSLAD + ", epochs: -1": "students.rslad.epochs: a whole number above 0 is expected (got -1)",
    RSLAD + ", modle: x": "students.rslad.modle: unknown; did you mean 'model'?",
    RSLAD + ", seeds: x": "students.rslad.seeds.0: a whole number of 0 or more is expected (got",
    RSLAD + ", seeds: [0, 0]": "students.rslad.seeds: 0 is there twice; drop one",
    RSLAD + ", seeds: []": "students.rslad.seeds: a list of one or more whole numbers of 0 or more "
    "is expected, such as [0, 1] (got an empty list)",
    RSLAD + ", seeds: yes": "students.rslad.seeds: a list of one or more whole numbers",
    RSLAD + ", epochs: yes": "students.rslad.epochs: a whole number above 0 is expected (got true)",
    RSLAD.replace("robust", "robst"): "students.rslad.teacher: no teacher 'robst'; did you mean",
    RSLAD.replace("resnet8", "resnet9"): "students.rslad.model: model 'resnet9-s2-w8'",
    RSLAD.replace("steps: 2", "stpes: 2"): "students.rslad.objective.rslad.stpes: unknown; did",
    RSLAD.replace("steps: 2", "eps: [1]"): "students.rslad.objective.rslad.eps: a number is "
    "expected, such as 0.1 or 8/255 (got a list)",
    RSLAD.replace("steps: 2", "eps: 8"): "students.rslad.objective.rslad.eps: 8 is more than 1, "
    "the whole range of a pixel; did you mean 8/255?",
    RSLAD.replace("steps: 2", "steps: {grid: [2, x]}"): "students.rslad.steps=x.objective.rslad."
    "steps: a whole number is expected, such as 3 (got 'x')",
}


@pytest.mark.parametrize(("section", "words"), CHANGES.items())
def test_a_fault_is_named_with_the_line_of_its_key(section, words, tmp_path):
    assert BASE.count(RSLAD) == 1
    said = line_of(tmp_path, BASE.replace(RSLAD, section))
    assert said.startswith(f"a.yaml:{RSLAD_LINE}: {words}")


def test_of_a_key_that_is_not_written_the_nearest_above_is_named(tmp_path):
    content = "seed: 0\nstudents:\n  a.b:\n    model: x\n    recipe:\n      lr: 1\n"
    assert line_of(tmp_path, content).startswith("a.yaml:3: students.a.b.objective: is missing")
    source = read_sources([write(tmp_path, content)])
    where = str(tmp_path / "a.yaml")
    assert source.locate("students.a.b.recipe.batch: x").startswith(f"{where}:5: ")
    assert source.locate("students.a.b.recipe.lr: x").startswith(f"{where}:6: ")
    assert source.locate("report.title: x") == f"{where}: report.title: x"


def test_of_several_files_the_one_with_the_key_is_named(tmp_path):
    more = "students:\n  adaad:\n    epochs: 0\n"
    assert line_of(tmp_path, BASE, more).startswith("b.yaml:3: students.adaad.epochs: a whole")
    assert line_of(tmp_path, BASE.replace("seed: 0", "seed: -1"), "store: x\n").startswith(
        "a.yaml:3"
    )
    said = line_of(tmp_path, BASE, more, given={"seed": "x"})
    assert said.startswith("--config: seed: a whole number of 0 or more is expected (got 'x')")


@pytest.mark.parametrize(
    "more",
    ["a: {x: 2, z: {w: 1}}", "a: 3", "a: {y: {q: 1}}", "a: {y: null}\nb: {c: 1}", "a: {}\nb: []"],
)
def test_files_are_merged_as_snakemake_merges_them(more, tmp_path):
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    paths[0].write_text("a: {x: 1, y: {p: [1, 2]}}\nb: 5\n")
    paths[1].write_text(more)
    merged = yaml.safe_load(paths[0].read_text())
    update_config(merged, yaml.safe_load(more))
    assert read_sources(paths).values == merged
    given = {"a": {"y": {"p": 0}}}
    update_config(merged, given)
    assert read_sources(paths, given).values == merged


def test_verbs_take_several_files(tmp_path, capsys):
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    paths[0].write_text(BASE.replace("store: store", f"store: {tmp_path}/store"))
    paths[1].write_text(
        "students: {rslad: {objective: {rslad: {steps: {grid: [1, 2]}}}, seeds: 3}}"
    )
    assert main(["plan", "--configfile", *map(str, paths)]) == 0
    printed = capsys.readouterr().out
    assert "rslad.steps=1-3" in printed
    assert printed.endswith("sweep rslad: 2 students: rslad.steps=1, rslad.steps=2\n")
    paths[1].write_text("students: {rslad: {epochs: x}}")
    for verb in ("plan", "status", "cost", "results", "verify"):
        assert main([verb, "--configfile", *map(str, paths)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {paths[1]}:1: students.rslad.epochs: ")


def test_snakemake_names_file_and_line_too(tmp_path):
    folder = Folder(tmp_path, name="config.yaml")
    folder.config.write_text(BASE + "seed: 1\n")
    command = folder.command("--dry-run")
    number = BASE.count("\n") + 1
    twice = f"error: config.yaml:{number}: seed: is there twice, first on line 3; delete"
    assert twice in run(folder, command)
    place = command.index("--configfile")
    default = command[:place] + command[place + 2 :]
    assert twice in run(folder, default)
    folder.config.write_bytes(BASE.encode("utf-16"))
    assert "error: config.yaml: is encoded in UTF-16; save it as UTF-8" in run(folder, default)
    folder.config.write_text(BASE)
    assert "error: --config: seed: a whole number" in run(folder, [*default, "--config", "seed=x"])


def run(folder: Folder, command: list[str]) -> str:
    """What a failing snakemake prints, without a traceback."""
    done = subprocess.run(
        command, cwd=folder.path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in text(done)
    return text(done)


def test_a_plan_of_files_checks_the_store(tmp_path):
    (tmp_path / "blocked").write_text("a file where the store should be")
    path = write(tmp_path, BASE.replace("store: store", f"store: {tmp_path}/blocked/store"))
    with pytest.raises(RetortError, match=r"a\.yaml:2: store: .* is not a folder; set 'store:'"):
        make_plan_from_files(path)
