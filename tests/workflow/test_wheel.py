"""The built wheel in a fresh environment and an empty folder: from images to a table."""

import os
import re
import runpy
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.helpers.graph import DATA, ROOT


@pytest.fixture(scope="module")
def retort(tmp_path_factory) -> Path:
    """The command of a wheel that was just built, in an environment of its own.

    The other packages are those of this environment: they are found behind the wheel's. A path in a
    .pth file does not read the .pth files there, so the editable install is not seen.
    """
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "env", with_pip=False)
    python = place / "env" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = place / "env" / "lib" / version / "site-packages"
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", wheel], check=True)
    return place / "env" / "bin" / "retort"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with nothing but three classes of real images."""
    example = runpy.run_path(str(ROOT / "examples" / "own-images" / "write_images.py"))
    example["write_images"](tmp_path / "photos", DATA)
    return tmp_path


def call(retort: Path, folder: Path, *arguments: str) -> str:
    """What the command, or another of its environment, prints in a folder."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [retort, *arguments], cwd=folder, env=outside, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def test_from_a_folder_of_images_to_a_table(retort, folder):
    assert "written" in call(retort, folder, "init", "--images", "photos")
    config = folder / "config.yaml"
    text = config.read_text()
    assert "3 classes, 120 images" in text
    assert "cat 40, dog 40, frog 40" in text
    text, count = re.subn(r"epochs: \d+", "epochs: 1", text)
    assert count == 1
    config.write_text(text.replace("steps: 20", "steps: 2").replace("queries: 500", "queries: 5"))
    assert "student" in call(retort, folder, "run", "--dry-run")
    call(retort, folder, "run", "--cores", "2")
    table = call(retort, folder, "results")
    assert "adaad" in table
    assert (folder / ".gitignore").read_text().splitlines()[0] == "/store/"
    assert "nothing would run" in call(retort, folder, "why", "adaad")
    commands, code = read_example_script()
    made = ["retort init --images photos", "retort run --cores all", "retort results"]
    assert commands[:3] == made
    for command in commands[3:]:
        call(retort, folder, *command.split()[1:])
    assert (folder / "exported" / "README.md").exists()
    told = call(retort.with_name("python"), folder, "-c", code)
    assert "the student's logits on a grey image: [[" in told


def read_example_script() -> tuple[list[str], str]:
    """The calls of `retort` in the example's script, and the Python at its end."""
    text = (ROOT / "examples" / "own-images" / "run.sh").read_text()
    shell, code, _ = re.split(r"^(?:.*<<'PYTHON'|PYTHON)$\n?", text, flags=re.M)
    return [line for line in shell.splitlines() if line.startswith("retort ")], code


def test_every_preset_begins_a_folder(retort, tmp_path):
    listed = call(retort, tmp_path, "init", "--list").splitlines()
    names = [line.split()[0] for line in listed]
    assert {"demo", "adaad-cifar10", "derd-fashion"} <= set(names)
    call(retort, tmp_path, "init", "--preset", "derd-fashion", "new")
    assert re.search(r"^generator +derd +", call(retort, tmp_path / "new", "plan"), re.M)


def test_the_papers_tables_are_in_the_wheel(retort):
    own = ROOT / "pipeline" / "report" / "papers"
    (installed,) = retort.parents[1].glob("lib/*/site-packages/pipeline/report/papers")
    names = {path.name for path in own.glob("*.csv")}
    assert {path.name for path in installed.glob("*.csv")} == names and len(names) == 32
