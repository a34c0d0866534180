"""The script for the card, tried on the CPU at a hundredth of its size, so that it cannot rot."""

import json
import re
import subprocess
import sys

from benchmarks.gpu.pack import TEST_IMAGES, decode_differences, encode_differences, pack, unpack
from benchmarks.gpu.record import CARD, FIGURES
from pipeline.datasets import cifar10
from tests.helpers.graph import DATA, ROOT

METHODS = ("adaad", "pgd_at", "bank as jpeg", "bank as blocks", "dad step", "rslad", "darwin")


def run_script(folder, *arguments: str) -> tuple[str, dict]:
    """The page and the data that the script wrote, started from elsewhere."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu" / "run.py"), "--device", "cpu"]
    command += ["--scale", "0.01", "--rounds", "1", "--out", str(folder / "out"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (page,), (data,) = (folder / "out").glob("gpu-*.md"), (folder / "out").glob("gpu-*.json")
    return page.read_text(), json.loads(data.read_text())


def test_the_tests_run_on_the_device_that_is_there(tmp_path):
    page, _ = run_script(tmp_path, "--parts", "tests", "--seconds", "20000")
    last = page.split("```")[1].strip().splitlines()[-1]
    assert re.match(r"\d+ passed, \d+ skipped, \d+ deselected", last), page


def test_every_figure_is_measured(tmp_path):
    page, data = run_script(tmp_path, "--parts", "figures", "--seconds", "6000")
    assert {"fp32", "tf32", "bf16"} <= data[CARD].keys()
    for method in METHODS:
        assert any(name.startswith(method) for name in data[FIGURES]), method
    assert "adaad by batch" in data[FIGURES] and "waiting" in data[FIGURES]
    assert "### Where the time goes: pgd_at" in page  # eight images are no aim's rate
    assert "Failed:" not in page
    assert "**Sizes are 0.01 of the full ones.**" in page


def test_the_study_keeps_what_its_time_allows(tmp_path):
    page, _ = run_script(tmp_path, "--parts", "study", "--seconds", "12")
    assert "it took" in page
    assert "| robust | 1 |" in page or "Not made, the time was over" in page


def test_the_pack_holds_the_images(tmp_path):
    count = pack(tmp_path / "packed.npz", 2.52, DATA)
    assert count == 41
    assert (tmp_path / "packed.npz").stat().st_size < 2.52e6
    assert unpack(tmp_path / "packed.npz", tmp_path / "images.npz") == count
    images, _ = cifar10.load("train", DATA)
    few = images[:3]
    assert (decode_differences(encode_differences(few)) == few).all()
    assert TEST_IMAGES == 1000
