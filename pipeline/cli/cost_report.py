"""The verb ``cost``: what a configuration will take, before anything runs."""

import argparse
import time
from dataclasses import dataclass

from pipeline.config.reader import Config, read_config
from pipeline.errors import RetortError
from pipeline.planning import cost, flops
from pipeline.planning.cost import ArtefactCost
from pipeline.planning.evaluation_cost import compute_evaluation_cost, list_attack_costs
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.report.tables import format_markdown_table
from pipeline.store.attempt_cost import sum_attempt_costs

GIGA, MEGA, HOUR_SECONDS = 1e9, 1e6, 3600.0
TRAINED_KINDS = ("teacher", "discretizer", "generator", "student")  # whose seconds go into networks
PROBE_NETWORK = ("resnet18", (3, 32, 32), 10)  # what is run where nothing is made yet
DOMINATING_SHARE = 1 / 3  # of a run's hours: an attack that takes more is pointed out
PROBE_IMAGES, PROBE_REPEATS = 16, 3


@dataclass(frozen=True)
class CostLine:
    """An artefact with its names, its cost, and whether it is made already."""

    kind: str
    names: str
    artefact_cost: ArtefactCost
    is_made: bool

    @property
    def due_cost(self) -> ArtefactCost:
        """What is still to be paid."""
        return ArtefactCost() if self.is_made else self.artefact_cost


def run_verb(options: argparse.Namespace) -> None:
    """Print the cost of every artefact; what is made already costs nothing.

    Raises:
        RetortError: the rate is not above 0.
    """
    if options.gflops is not None and not options.gflops > 0:
        raise RetortError(f"--gflops {options.gflops:g}: give a rate above 0, in GFLOP per second")
    config = read_config(*options.configfile)
    plan = make_plan(config)
    lines = [
        make_line(config, plan, ref)
        for ref, entry in plan.artefacts.items()
        if has_cost(entry.kind)
    ]
    if options.gflops is not None:
        rate, source = options.gflops, "given"
    else:
        rate, source = measure_past_rate(plan, lines) or (
            measure_trial_rate(config.device),
            "a short trial just now",
        )
    print(format_costs(lines, rate))
    print(format_uncounted(lines), end="")
    print(
        f"Hours at {rate:,.1f} GFLOP/s ({source}), one job at a time. FLOP of attacks and bytes of "
        "banks are upper bounds: attacks leave off images that fall, a bank drops samples."
    )
    for warning in list_dominating_attacks(config, plan, lines, rate):
        print(warning)


def list_dominating_attacks(
    config: Config, plan: Plan, lines: list[CostLine], rate: float
) -> list[str]:
    """A line for each attack that takes a third or more of the hours that are due."""
    flop_by_attack: dict[str, float] = {}
    for line in lines:
        if line.kind == "evaluation" and not line.is_made:
            entry = plan.artefacts[plan.refs_by_name[line.kind, line.names.split(" = ")[0]]]
            for attack, spent in list_attack_costs(config, entry):
                flop_by_attack[attack] = flop_by_attack.get(attack, 0.0) + spent.flop
    whole = sum(line.due_cost.flop for line in lines)
    return [
        f"warning: {attack} takes {flop / whole:.0%} of the run's hours, "
        f"{flop / GIGA / rate / HOUR_SECONDS:,.3f}; a smaller n_eval takes less"
        for attack, flop in flop_by_attack.items()
        if flop and flop / whole >= DOMINATING_SHARE
    ]


def format_uncounted(lines: list[CostLine]) -> str:
    """A line that names what FLOP and hours leave out; empty if they leave out nothing."""
    left_out = sorted({name for line in lines for name in line.due_cost.uncounted})
    if not left_out:
        return ""
    return f"Not counted: {', '.join(left_out)}. FLOP and hours leave them out.\n"


def has_cost(kind: str) -> bool:
    """Whether a kind has a cost; a report has none."""
    return kind == "evaluation" or hasattr(cost, f"compute_{kind}_cost")


def make_line(config: Config, plan: Plan, ref: str) -> CostLine:
    """An artefact's line."""
    entry = plan.artefacts[ref]
    if entry.kind == "evaluation":
        artefact_cost = compute_evaluation_cost(config, entry)
    else:
        name = entry.name.rpartition("-")[0] if entry.kind == "student" else entry.name
        artefact_cost = getattr(cost, f"compute_{entry.kind}_cost")(config, name)
    names = " = ".join(n for (_, n), other in plan.refs_by_name.items() if other == ref)
    return CostLine(entry.kind, names, artefact_cost, plan.is_complete(ref))


def measure_past_rate(plan: Plan, lines: list[CostLine]) -> tuple[float, str] | None:
    """GFLOP per second over the networks that were trained here, None if there are none."""
    flop = seconds = 0.0
    trained = [
        r for r, e in plan.artefacts.items() if e.kind in TRAINED_KINDS and plan.is_complete(r)
    ]
    of_ref = {
        plan.refs_by_name[line.kind, line.names.split(" = ")[0]]: line.artefact_cost
        for line in lines
    }
    for ref in trained:
        took = sum_attempt_costs(plan.folder_path(ref))["seconds"]
        if of_ref[ref].flop and took:
            flop, seconds = flop + of_ref[ref].flop, seconds + took
    if not seconds:
        return None
    return flop / GIGA / seconds, f"measured on {len(trained)} finished trainings of this plan"


def measure_trial_rate(device: str) -> float:
    """GFLOP per second of a small network's training pass, the best of some tries."""
    import torch

    from pipeline.models.classifier import build_classifier

    name, shape, classes = PROBE_NETWORK
    if device == "cuda" and not torch.cuda.is_available():
        raise RetortError("device: torch sees no cuda here to measure; give a rate with --gflops")
    model = build_classifier(name, classes, (0.0,) * 3, (1.0,) * 3).to(device)
    x = torch.rand(PROBE_IMAGES, *shape, device=device)
    best = float("inf")
    for _ in range(PROBE_REPEATS):
        began = time.perf_counter()
        model(x).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 3 * PROBE_IMAGES * flops.measure_classifier(*PROBE_NETWORK)[0] / GIGA / best


def format_costs(lines: list[CostLine], rate: float) -> str:
    """One line an artefact and one for all."""
    rows = [
        format_row(ln.kind, ln.names, "made" if ln.is_made else "", ln.due_cost, rate)
        for ln in lines
    ]
    whole = ArtefactCost(
        sum(ln.due_cost.flop for ln in lines),
        sum(ln.due_cost.images for ln in lines),
        sum(ln.due_cost.disk_bytes for ln in lines),
    )
    rows.append(format_row("all", f"{len(lines)} artefacts", "", whole, rate))
    head = ["kind", "name", "state", "images", "GFLOP an image", "GFLOP", "hours", "MB on disk"]
    return format_markdown_table(head, rows, left_columns=3)


def format_row(
    kind: str, name: str, state: str, artefact_cost: ArtefactCost, rate: float
) -> list[str]:
    """A cost as the cells of a row."""
    flop = artefact_cost.flop / GIGA
    each = f"{flop / artefact_cost.images:,.3g}" if artefact_cost.images else "0"
    hours = f"{flop / rate / HOUR_SECONDS:,.3f}"
    return [
        *(kind, name, state, f"{artefact_cost.images:,}", each, f"{flop:,.0f}", hours),
        f"{artefact_cost.disk_bytes / MEGA:,.1f}",
    ]
