"""All CPU benchmarks, each in a process of its own: `python -m benchmarks.run [--quick]`.

Results go to `benchmarks/results`, those of a quick run to `build/bench`. `--only` names parts,
`--store` a store of the finished demo. Also `make bench`.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = (
    "attacks",
    "training_steps",
    "bank_building",
    "bank_reading",
    "dad_step",
    "startup",
    "plan_scale",
    "stage_memory",
    "demo_stages",
)


def main() -> None:
    """Run the parts; ends with status 1 if one fails, after the others have run."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    options.add_argument("--rounds", help="turns of each work")
    options.add_argument("--out", type=Path, help="folder of the results")
    options.add_argument("--store", type=Path, help="a store of the finished demo")
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    given = options.parse_args()
    passed_on = ["--quick"] if given.quick else []
    for name in ("rounds", "out", "store"):
        if (value := getattr(given, name)) is not None:
            passed_on += [f"--{name}", str(value)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    failed = []
    for part in given.only:
        print(f"== {part}", flush=True)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{part}", *passed_on], cwd=ROOT, env=env
        )
        print(f"== {part}: {time.monotonic() - start:.0f} s", flush=True)
        failed += [part] if done.returncode else []
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
