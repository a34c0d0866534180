"""How long it takes until something begins: `python -m benchmarks.startup`.

CPU seconds of a whole process, so that waiting for other work does not count: importing torch,
importing each stage, `retort plan` and `snakemake --dry-run` on the default configuration, and the
job of a data set of 512 images. The processes take turns.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.dad_step import experiment
from benchmarks.timing import (
    ROOT,
    describe_run,
    format_table,
    parse_settings,
    show,
    summarise,
    take_turns,
    write_result,
)
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.store.artefact import STAGES_BY_KIND

CONFIGURATION = str(ROOT / "config.yaml")


def make_process(folder: Path, *arguments: str) -> Callable[[], None]:
    """A process of this Python that runs to its end."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "workflow")))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)


def measure_children() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_job(folder: Path) -> Callable[[], None]:
    """The job of a small data set; each call makes it anew."""
    plan = make_plan_from_dict(experiment(folder, "resnet8-s2-w32"))
    write_job_files(plan)
    (place,) = (plan.folder_path(r) for r, e in plan.artefacts.items() if e.kind == "dataset")
    spec = (place / "spec.json").read_bytes()
    run = make_process(folder, "-m", "pipeline", "prepare_data", str(place))

    def make_again() -> None:
        shutil.rmtree(place)
        place.mkdir()
        (place / "spec.json").write_bytes(spec)
        run()

    return make_again


def main() -> None:
    """Measure and write `startup.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        dry = ("-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile")
        works = {"python -c 'import torch'": make_process(folder, "-c", "import torch")}
        stages = ("distill",) if settings.quick else STAGES_BY_KIND.values()
        for stage in stages:
            works[f"import of {stage}"] = make_process(
                folder, "-c", f"import pipeline.stages.{stage}"
            )
        plan = ("-m", "pipeline", "plan", "--configfile", CONFIGURATION)
        works["retort plan"] = make_process(folder, *plan)
        works["snakemake --version"] = make_process(folder, "-m", "snakemake", "--version")
        works["snakemake -n"] = make_process(folder, *dry, CONFIGURATION, "-n", "--cores", "all")
        works["job of a data set"] = make_job(folder)
        seconds = take_turns(works, settings.rounds, clock=measure_children)
    rows = [[f"`{name}`", show(found)] for name, found in seconds.items()]
    text = f"""# Until something begins

`python -m benchmarks.startup`: CPU seconds of a whole process, user and system; on a quiet machine
that is the time on the clock.
{describe_run(settings, ("snakemake",))}

{format_table(["process", "CPU seconds"], rows)}

Aims: 2.5 s for the import of a stage, 4 s for `snakemake -n`."""
    write_result(settings, "startup", text, {n: summarise(f) for n, f in seconds.items()})


if __name__ == "__main__":
    main()
