"""The GPU path, tested and measured: `python benchmarks/gpu/run.py`, or `make gpu`.

It needs a copy of the repository, Python 3.11 or later, torch 2.11 or later and the packages that
the pipeline imports; `--wheels FOLDER` installs those first, without a network. Snakemake is not
used. Without taming, open_clip, foolbox, pyautoattack or imagecorruptions, what needs them is left
out. The parts:

    tests    the tests marked `gpu`, in a process of their own
    figures  the card's matrix rate and copy bandwidth; steps and a bank as shares of it
    study    PGD-AT's teacher, then AdaAD, RSLAD and DARWIN, as long as time is left

Each part saves its result as it ends, in `gpu-<card>.md` and beside it as JSON, and the next begins
only if time is left. `--device cpu --scale 0.01` runs all of it at a hundredth of its size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("tests", "figures", "study")
if "cpu" in sys.argv:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for it where it is exact
BUDGET = 540.0  # seconds
ROUNDS = 7
TESTS_SHARE = 0.3  # of the budget, at most


def parse_options() -> argparse.Namespace:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options.add_argument("--scale", type=float, default=1.0, help="share of the full sizes")
    options.add_argument("--wheels", type=Path, help="a folder of wheels to install first")
    options.add_argument("--images", type=Path, help="the file that benchmarks.gpu.pack wrote")
    options.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ROOT / "build")))
    options.add_argument("--seconds", type=float, default=BUDGET, help="end after as many")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each work")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    return options.parse_args()


def install_wheels(folder: Path) -> None:
    """Install wheels into a temporary folder and start this script again with it on the path."""
    site = tempfile.mkdtemp()
    wheels = sorted(map(str, folder.glob("*.whl")))
    flags = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--target", site)
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, *wheels], check=True)
    path = os.pathsep.join(filter(None, (site, os.environ.get("PYTHONPATH"))))
    place = sys.argv.index("--wheels")
    arguments = sys.argv[:place] + sys.argv[place + 2 :]
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, "PYTHONPATH": path})


def run_tests(device: str, seconds: float) -> str:
    """What pytest says of the tests marked `gpu`: its last lines."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "RETORT_GPU_TESTS": device, "PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--noconftest", "-p", "no:cacheprovider"]
    command += ["-o", "filterwarnings=default", "-m", "gpu", "tests/gpu", "--durations=5"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as ended:
        return f"not finished after {seconds:.0f} s\n{(ended.stdout or b'').decode()[-1500:]}"
    return (done.stdout + done.stderr)[-2500:].strip()


def main() -> None:
    """Run the parts in order."""
    start, options = time.monotonic(), parse_options()
    if options.wheels is not None:
        install_wheels(options.wheels)
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu import card, figures, record, study

    report = record.Report(options.out, card.name_card(options.device), options.scale)
    deadline = start + options.seconds
    if "tests" in options.parts:
        report.add_tests(run_tests(options.device, TESTS_SHARE * options.seconds))
    if "figures" in options.parts and time.monotonic() < deadline:
        figures.measure_all(report, options.device, options.scale, deadline, options.rounds)
    if "study" in options.parts and time.monotonic() < deadline:
        study.run(report, options.device, options.scale, options.images, deadline)
    report.finish(time.monotonic() - start)


if __name__ == "__main__":
    main()
