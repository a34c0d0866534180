"""The verb ``cost``: what a configuration will take, before anything runs."""

import argparse
import time
from dataclasses import dataclass

from pipeline.config.reader import Config, read
from pipeline.errors import RetortError
from pipeline.planning import cost, flops
from pipeline.planning.cost import Price
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.report.tables import grid
from pipeline.store.attempt_cost import cost_of

GIGA, MEGA, HOUR = 1e9, 1e6, 3600.0
TRAINED = ("teacher", "discretizer", "generator", "student")  # whose seconds go into networks
PROBE = ("resnet18", (3, 32, 32), 10)  # what is run where nothing is made yet
IMAGES, REPEATS = 16, 3


@dataclass(frozen=True)
class Line:
    """An artefact with its names, its price, and whether it is made already."""

    kind: str
    names: str
    price: Price
    made: bool

    @property
    def due(self) -> Price:
        """What is still to be paid."""
        return Price() if self.made else self.price


def show(options: argparse.Namespace) -> None:
    """Print the price of every artefact, what is made already at zero.

    Raises:
        RetortError: the rate is not above 0.
    """
    if options.gflops is not None and not options.gflops > 0:
        raise RetortError(f"--gflops {options.gflops:g}: give a rate above 0, in GFLOP per second")
    config = read(options.configfile)
    plan = make_plan(config)
    lines = [line_of(config, plan, ref) for ref, entry in plan.entries.items() if known(entry.kind)]
    if options.gflops is not None:
        rate, source = options.gflops, "given"
    else:
        rate, source = experience(plan, lines) or (probed(config.device), "a short trial just now")
    print(table(lines, rate))
    print(
        f"Hours at {rate:,.1f} GFLOP/s ({source}), one job at a time. FLOP of attacks and bytes of "
        "banks are upper bounds: attacks leave off images that fall, a bank drops samples."
    )


def known(kind: str) -> bool:
    """Whether a kind has a price; a report has none."""
    return hasattr(cost, kind)


def line_of(config: Config, plan: Plan, ref: str) -> Line:
    """An artefact's line."""
    entry = plan.entries[ref]
    name = entry.name.rpartition("-")[0] if entry.kind == "student" else entry.name
    price = getattr(cost, entry.kind)(config, name)
    names = " = ".join(n for (_, n), other in plan.names.items() if other == ref)
    return Line(entry.kind, names, price, plan.made(ref))


def experience(plan: Plan, lines: list[Line]) -> tuple[float, str] | None:
    """GFLOP per second over the networks that were trained here, None if there are none."""
    flop = seconds = 0.0
    trained = [r for r, e in plan.entries.items() if e.kind in TRAINED and plan.made(r)]
    of_ref = {plan.names[line.kind, line.names.split(" = ")[0]]: line.price for line in lines}
    for ref in trained:
        took = cost_of(plan.folder(ref))["seconds"]
        if of_ref[ref].flop and took:
            flop, seconds = flop + of_ref[ref].flop, seconds + took
    if not seconds:
        return None
    return flop / GIGA / seconds, f"measured on {len(trained)} finished trainings of this plan"


def probed(device: str) -> float:
    """GFLOP per second of a small network's training pass, the best of some tries."""
    import torch

    from pipeline.models.classifier import build

    name, shape, classes = PROBE
    if device == "cuda" and not torch.cuda.is_available():
        raise RetortError("device: torch sees no cuda here to measure; give a rate with --gflops")
    model = build(name, classes, (0.0,) * 3, (1.0,) * 3).to(device)
    x = torch.rand(IMAGES, *shape, device=device)
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        model(x).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 3 * IMAGES * flops.classifier(*PROBE)[0] / GIGA / best


def table(lines: list[Line], rate: float) -> str:
    """One line an artefact and one for all."""
    rows = [row(ln.kind, ln.names, "made" if ln.made else "", ln.due, rate) for ln in lines]
    whole = Price(
        sum(ln.due.flop for ln in lines),
        sum(ln.due.images for ln in lines),
        sum(ln.due.disk for ln in lines),
    )
    rows.append(row("all", f"{len(lines)} artefacts", "", whole, rate))
    head = ["kind", "name", "state", "images", "GFLOP an image", "GFLOP", "hours", "MB on disk"]
    return grid(head, rows, left=3)


def row(kind: str, name: str, state: str, price: Price, rate: float) -> list[str]:
    """A price as cells."""
    flop = price.flop / GIGA
    each = f"{flop / price.images:,.3g}" if price.images else "0"
    hours = f"{flop / rate / HOUR:,.3f}"
    return [
        *(kind, name, state, f"{price.images:,}", each, f"{flop:,.0f}", hours),
        f"{price.disk / MEGA:,.1f}",
    ]
