"""The tiny graph killed again and again, each time at the k-th thing it does to a file.

`python -m tests.helpers.chaos KILLS WORKFLOWS` kills stages KILLS times, and WORKFLOWS
times a whole workflow, snakemake and all its jobs; the tests do a short form of the first. In the
end every artefact must be as if nobody had killed anything.
"""

import itertools
import json
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.store.artefact import STAGES_BY_KIND
from tests.helpers import forked
from tests.helpers.graph import Folder, environment, tiny
from tests.helpers.hooks.sitecustomize import touches

HOOKS = Path(__file__).parent / "hooks"
KILLS = (signal.SIGKILL, signal.SIGTERM)
SEED = 20261124
ATTEMPTS = 2000  # of one stage, before the harness gives up


def experiment() -> dict:
    """Of the tiny graph a bank's student and a generator's, saved after every step."""
    raw = tiny()
    raw["run"]["checkpoint_seconds"] = 0
    raw["students"] = {name: raw["students"][name] for name in ("dad", "derd")}
    del raw["report"]  # it prints what things cost, so its bytes differ
    return raw


@dataclass
class Killer:
    """Counts over all its children what is done to files, and kills at chosen counts."""

    rng: random.Random
    mean: float
    kills: int
    killed: list[int] = field(default_factory=list)
    counter: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 8))
    due: int = 0

    def __post_init__(self):
        self.plan_next()

    @property
    def count(self) -> int:
        """What was done to files so far."""
        return struct.unpack("q", self.counter[:8])[0]

    def plan_next(self) -> None:
        """Choose the next moment and signal; none where all kills are done."""
        left = len(self.killed) < self.kills
        self.due = self.count + 1 + int(self.rng.expovariate(1 / self.mean)) if left else 0
        self.signal = self.rng.choice(KILLS)

    def watch(self, event: str, arguments: tuple) -> None:
        """In a child: count, and die in time."""
        if touches(event, arguments):
            count = self.count + 1
            self.counter[:8] = struct.pack("q", count)
            if count == self.due:
                os.kill(os.getpid(), self.signal)

    def run(self, arguments: list[str], cwd: Path) -> None:
        """One stage, again and again until it gets through.

        Raises:
            AssertionError: it failed otherwise than by the kill.
        """
        for _ in range(ATTEMPTS):
            ended = forked.forked(lambda: self.life(arguments), cwd, environment())
            if self.due and self.count >= self.due:
                self.killed.append(self.signal)
                ours = (-self.signal, 128 + self.signal, 0)
                assert ended.status in ours, f"{arguments} {ended.status}: {ended.text[-2000:]}"
                self.plan_next()
            else:
                assert ended.status == 0, f"{arguments}: {ended.text[-2000:]}"
            if ended.status == 0:
                return
        raise AssertionError(f"{arguments} never gets through")

    def life(self, arguments: list[str]) -> int:
        """A child's: the very command line of a job."""
        from pipeline.cli.main import main

        sys.addaudithook(self.watch)
        return main(arguments)


def jobs(plan: Plan) -> Iterator[list[str]]:
    """The commands of a plan's jobs, inputs first; a bank's shard groups one by one."""
    for ref, entry in plan.artefacts.items():
        verb, folder = STAGES_BY_KIND[entry.kind], str(plan.folder_path(ref))
        if entry.kind == "bank":
            yield from (
                [verb, folder, "--shards", g.replace("-", ":")] for g in plan.list_shard_groups(ref)
            )
        yield [verb, folder]


def sums(plan: Plan) -> dict[str, dict]:
    """Digests of the files of every artefact of a plan."""
    return {ref: json.loads(plan.manifest_path(ref).read_text())["files"] for ref in plan.artefacts}


def leftovers(plan: Plan) -> list[Path]:
    """Leases and states that somebody would have to remove by hand."""
    found = [
        (plan.folder_path(ref).glob("*.lock"), plan.folder_path(ref).glob("state"))
        for ref in plan.artefacts
    ]
    return list(itertools.chain.from_iterable(itertools.chain.from_iterable(found)))


def prepared(place: Path) -> Plan:
    """The experiment's job files written in a folder."""
    plan = make_plan_from_dict({**experiment(), "store": str(place / "store")})
    write_job_files(plan)
    return plan


def harass(place: Path, kills: int, mean: float, seed: int = SEED) -> tuple[Plan, Killer]:
    """Make the experiment in a folder while killing its stages.

    Args:
        mean: how many things are done to files between two kills, on average.
    """
    forked.preload(
        "torch",
        "pipeline.cli.main",
        *(f"pipeline.stages.{stage}" for stage in STAGES_BY_KIND.values()),
    )
    place.mkdir(exist_ok=True)
    plan, killer = prepared(place), Killer(random.Random(seed), mean, kills)
    for arguments in jobs(plan):
        killer.run(arguments, place)
    return plan, killer


def harass_workflows(place: Path, kills: int, mean: float, seed: int = SEED) -> tuple[Plan, int]:
    """The same with snakemake: its whole process group is killed, and it is started again."""
    rng, folder, counter = random.Random(seed), Folder(place), place / "counter"
    folder.write({**experiment(), "store": "store"})
    killed = 0
    while killed < kills:
        counter.write_bytes(b"")
        moment, number = 1 + int(rng.expovariate(1 / mean)), rng.choice(KILLS)
        chaos = {"CHAOS": f"{moment}:{int(number)}", "CHAOS_COUNTER": str(counter)}
        path = f"{HOOKS}{os.pathsep}{environment()['PYTHONPATH']}"
        ended = folder.start(environ={**environment(), **chaos, "PYTHONPATH": path})
        _, printed = ended.communicate()
        if counter.stat().st_size < moment:
            assert ended.returncode == 0, printed[-3000:]
            break
        killed += 1
    folder.make()
    assert folder.planned() == set()
    return make_plan_from_dict({**experiment(), "store": str(place / "store")}), killed


def rounds(kills: int, harm: Callable[[Path, int, int], tuple[Plan, int]], calm: dict) -> int:
    """Harm one graph after the other, as each outlives only so many kills; each must end as calm.

    Returns how often something was killed in all, at least ``kills``.
    """
    done = turn = 0
    while done < kills:
        with tempfile.TemporaryDirectory() as place:
            plan, killed = harm(Path(place), kills - done, SEED + turn)
            assert sums(plan) == calm, f"seed {SEED + turn}"
            assert leftovers(plan) == [], f"seed {SEED + turn}"
        assert killed, f"seed {SEED + turn}: nothing was killed"
        done, turn = done + killed, turn + 1
        print(f"  {done} kills: every artefact as if undisturbed", flush=True)
    return done


def stages(place: Path, kills: int, seed: int) -> tuple[Plan, int]:
    """One graph, its stages killed."""
    plan, killer = harass(place, kills, 40, seed)
    return plan, len(killer.killed)


def workflows(place: Path, kills: int, seed: int) -> tuple[Plan, int]:
    """One graph, its workflow killed."""
    return harass_workflows(place, kills, 12, seed)


def main(kills: int, whole: int) -> None:
    """The long form."""
    with tempfile.TemporaryDirectory() as place:
        calm = sums(harass(Path(place), 0, 1)[0])
    print(f"{rounds(kills, stages, calm)} kills of stages", flush=True)
    print(f"{rounds(whole, workflows, calm)} kills of whole workflows", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
