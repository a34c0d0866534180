"""A data-free run opens no training image; only evaluation opens the test images."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from tests.helpers.graph import DATA, Folder, environment, tiny

# Moves files and runs stages, part by part, in a process that has read nothing before. Prints of
# each part how its stages ended and what Python opened or listed.
WATCHED = """
import json, os, sys
ended, opened, parts = [], set(), []
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, bytes)):
        opened.add(os.path.realpath(os.fsdecode(arguments[0])))
sys.addaudithook(note)
from pipeline.cli.main import main
for part in json.loads(sys.argv[1]):
    for source, target in part["moves"]:
        os.replace(source, target)
    for verb, folder in part["stages"]:
        try:
            ended.append(main([verb, folder]))
        except OSError as error:
            ended.append(str(error))
    parts.append([ended, sorted(opened)])
    ended, opened = [], set()
print(json.dumps(parts))
"""


Part = tuple[list[tuple[Path, Path]], list[tuple[str, Path]]]


def watched(*parts: Part) -> list[tuple[list, set[Path]]]:
    """Of each part, files to move and then stages: exit statuses, and all that was opened."""
    asked = json.dumps([{"moves": moves, "stages": stages} for moves, stages in parts], default=str)
    command = [sys.executable, "-c", WATCHED, asked]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return [(ended, {Path(path) for path in opened}) for ended, opened in found]


ROUNDS = {"rounds": {"iterations": 2, "made": 16}}
KEPT = ("val", "test")  # the splits that an evaluation may open
PIXELS = {"rounds": {"of": "pixels", "iterations": 2, "made": 16}}
RSLAD = {"attack": "rslad", "steps": 1}
OTHERS = {  # a generator's own fields, and its student's objective
    "dafl": ({}, {"data_free_kd": RSLAD}),
    "dfad": ({}, {"dfad": RSLAD}),
    "zskt": ({}, {"zskt": RSLAD}),
    "dfard_like": ({}, {"dfard_like": RSLAD}),
    "cmi": (ROUNDS, {"data_free_kd": RSLAD}),
    "dfhl_rs": (ROUNDS, {"dfhl_rs": {"entropy_steps": 1}}),
    "inversion": (PIXELS, {"data_free_kd": RSLAD}),
}


def data_free() -> dict:
    """The tiny experiment's data-free part, other methods, and a student that needs images."""
    raw = tiny()
    for section in ("discretizers", "banks"):
        del raw[section]
    del raw["teachers"]["clip"]
    raw["students"] = {name: raw["students"][name] for name in ("derd", "natural")}
    for name, (own, objective) in OTHERS.items():
        shared = {
            k: v for k, v in raw["generators"]["derd"].items() if k not in ("weights", "replayed")
        }
        raw["generators"][name] = shared | {"warm": False, "losses": name} | own
        raw["students"][name] = raw["students"]["derd"] | {
            "generator": name,
            "sampling": {"steps_per_epoch": 2},
            "teachers": {"natural": "natural"},
            "objective": objective,
        }
    raw["suites"] = {"main": {"attacks": ["clean"], "models": "students"}}
    return raw


@pytest.fixture
def without_images(made: Folder, tmp_path) -> tuple[dict[str, Path], Path]:
    """Folders of the planned artefacts by name, and the folder of a data set without images."""
    for kind in ("dataset", "teacher"):
        shutil.copytree(made.path / "store" / kind, tmp_path / "store" / kind)
    raw = data_free() | {"store": str(tmp_path / "store")}
    raw["run"]["data"] = str(tmp_path / "nothing")
    plan = make_plan_from_dict(raw)
    write_job_files(plan)
    folders = {
        f"{kind}/{name}": plan.store / ref for (kind, name), ref in plan.refs_by_name.items()
    }
    images = folders["dataset/tiny"]
    (tmp_path / "aside").mkdir()
    for split in ("train", "val", "test"):
        (images / f"{split}.safetensors").rename(tmp_path / "aside" / f"{split}.safetensors")
    return folders, images


def test_no_stage_of_a_data_free_run_opens_an_image(without_images, tmp_path):
    folders, images = without_images
    names, aside = ("derd", *OTHERS), tmp_path / "aside"
    (aside / "altered").write_bytes(b"altered")
    back = [(aside / f"{split}.safetensors", images / f"{split}.safetensors") for split in KEPT]
    back.append((aside / "altered", images / "train.safetensors"))
    without, with_images = watched(
        (
            [],
            [
                *(("warm_generator", folders[f"generator/{name}"]) for name in names),
                *(("distill", folders[f"student/{name}-0"]) for name in names),
            ],
        ),
        (
            back,
            [
                ("evaluate", folders["evaluation/derd-0.main"]),
                ("distill", folders["student/natural-0"]),
            ],
        ),
    )
    ended, opened = without
    assert ended == [0] * 2 * len(names)
    assert all((folders[f"student/{name}-0"] / "manifest.json").exists() for name in names)
    seen = {p for p in opened for place in (images, DATA) if p.is_relative_to(place)}
    assert seen == set()
    assert {p.name for p in opened} >= {"manifest.json", "spec.json"}  # the audit hook works

    ended, opened = with_images
    assert ended[0] == 0
    assert images / "test.safetensors" in opened
    assert ended[1] == 2  # this student needs images, and the hook sees its attempt
    assert images / "train.safetensors" in opened


def test_no_data_set_is_among_a_data_free_run_s_inputs(without_images):
    folders, images = without_images
    alone = {"generator", "teachers.natural"}
    for name, inputs in (
        ("generator/derd", {"teacher"}),
        ("student/derd-0", alone | {"teachers.robust"}),
        *((f"generator/{other}", {"teacher"}) for other in OTHERS),
        *((f"student/{other}-0", alone) for other in OTHERS),
    ):
        order = json.loads((folders[name] / "spec.json").read_text())
        assert set(order["inputs"]) == inputs
        assert images.name not in json.dumps(order)
