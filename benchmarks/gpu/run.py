"""The GPU path, tested and measured: `python benchmarks/gpu/run.py`, or `make gpu`.

It needs a copy of the repository, Python 3.11 or later, torch 2.11 or later and the packages that
the pipeline imports; `--wheels FOLDER` installs those first, without a network. Snakemake is not
used. Without taming, open_clip, foolbox, pyautoattack or imagecorruptions, what needs them is left
out. The parts:

    tests    all tests marked `gpu`, in a process of their own
    figures  the card's matrix rate and copy bandwidth; steps and a bank as shares of it
    study    PGD-AT's teacher, then AdaAD, RSLAD and DARWIN, as long as time is left

Each result is saved as it is found, in `gpu-<card>.md` and beside it as JSON, and a part begins
only if time is left. An error is noted and what follows still runs; the exit status then is 1, as
where a test failed. `--device cpu --scale 0.01` runs all of it at a hundredth of its size.
"""

import argparse
import os
import signal
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
SUMMARY_SECONDS = 10.0  # for pytest to name what failed, once it is asked to end
MOST_FAILURES = 10  # after which the tests end
TEXT_LENGTH = 4000  # last characters of what pytest says


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
    arguments = [sys.executable, *drop_wheels(sys.argv)]
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": path})


def drop_wheels(arguments: list[str]) -> list[str]:
    """The command line without `--wheels` in any of its forms."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--wheels")
    return options.parse_known_args(arguments)[1]


def list_test_files() -> list[str]:
    """The files of tests that speak of the marker `gpu`; others may need what is not there."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(f.relative_to(ROOT)) for f in files if "pytest.mark.gpu" in f.read_text()]


def run_tests(device: str, seconds: float) -> tuple[str, bool]:
    """What pytest says last of the tests marked `gpu`, and whether none of them failed.

    A failure does not hide the others. When the time is over, pytest is asked to end, so that it
    names what failed until then.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "RETORT_GPU_TESTS": device, "PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]
    command += ["-o", "filterwarnings=default", "-m", "gpu", "--durations=5", "-rfE", "--tb=short"]
    command += [f"--maxfail={MOST_FAILURES}", "--continue-on-collection-errors"]
    command += list_test_files()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a started process may ignore it
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
        is_over = wait_or_end(process, seconds)
        out.seek(0)
        text = out.read()
    has_failed = any(line.startswith(("FAILED ", "ERROR ")) for line in text.splitlines())
    is_good = not has_failed if is_over else process.returncode == 0
    late = f"not finished after {seconds:.0f} s\n" if is_over else ""
    return (late + text[-TEXT_LENGTH:]).strip(), is_good


def wait_or_end(process: subprocess.Popen, seconds: float) -> bool:
    """Wait for the tests; returns whether they had to be ended because the time was over."""
    try:
        process.wait(max(seconds - SUMMARY_SECONDS, 0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(SUMMARY_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return True
    return False


def main() -> None:
    """Run the parts in order."""
    start, options = time.monotonic(), parse_options()
    if options.wheels is not None:
        install_wheels(options.wheels)
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu import card, figures, record, study

    report = record.Report(options.out, card.name_card(options.device), options.scale)
    deadline = start + options.seconds
    device, scale = options.device, options.scale
    parts = {
        "tests": lambda: report.add_tests(*run_tests(device, TESTS_SHARE * options.seconds)),
        "figures": lambda: figures.measure_all(report, device, scale, deadline, options.rounds),
        "study": lambda: study.run(report, device, scale, options.images, deadline),
    }
    for name, part in parts.items():
        if name in options.parts and time.monotonic() < deadline:
            with report.attempt(name):
                part()
    report.finish(time.monotonic() - start)
    if report.failures:
        sys.exit(f"failed: {', '.join(report.failures)}")


if __name__ == "__main__":
    main()
