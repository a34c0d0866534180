"""How banks of discrete samples respond to their settings: `python -m benchmarks.bank_response`.

    python -m benchmarks.bank_response [configuration ...]

Prints a row for each finished bank of discretised samples that the configurations name: the share
of tokens that differ from Q(x)'s, the share that re-quantising Q(x) flips by itself, what the
attack flips beyond that (both over the first block of each shard), the share of samples that the
teacher accepts, the mean change of a pixel, and how far the teacher's probability of the label
falls from an image to its stored sample.
"""

import sys
from pathlib import Path

import torch

from pipeline.banks.reader import read_bank
from pipeline.planning.graph import make_plan_from_files
from pipeline.store.artefact import Artefact, open_artefact

ROOT = Path(__file__).parents[1]
USUAL = ("workflow/dad-gain.yaml",)
COLUMNS = {
    "token_flips": "tokens",
    "token_flips_requantised": "by re-quantising",
    "token_flips_beyond": "beyond it",
    "acceptance": "accepted",
    "pixel_change": "pixels",
}


@torch.no_grad()
def measure_confidence_drop(folder: Path) -> float:
    """Mean fall of the teacher's probability of the label, over a bank's samples."""
    fields = read_bank(folder, needs=("t_clean", "t_adv")).fields
    rows = fields["row"]
    label = fields["label"][rows].long().unsqueeze(1)
    before = fields["t_clean"][rows].float().softmax(1).gather(1, label)
    after = fields["t_adv"][torch.arange(len(rows))].float().softmax(1).gather(1, label)
    return (before - after).mean().item()


def format_bank(name: str, bank: Artefact) -> str:
    """A bank's row; what does not exist, such as flips of Q(x) itself, is a dash."""
    facts = bank.manifest.facts
    shares = [f"{100 * facts[name]:.1f}" if name in facts else "–" for name in COLUMNS]
    drop = f"{100 * measure_confidence_drop(bank.folder):+.1f}"
    return f"| {' | '.join([name, *shares, drop])} |"


def main(*paths: str) -> None:
    """Print the table, in percent and points."""
    print(f"| bank | {' | '.join(COLUMNS.values())} | confidence falls by |")
    print(f"|---|{'--:|' * (len(COLUMNS) + 1)}")
    for path in paths:
        plan = make_plan_from_files(ROOT / path)
        for ref, entry in plan.artefacts.items():
            if entry.kind == "bank" and "discretizer" in entry.inputs and plan.is_complete(ref):
                print(format_bank(entry.name, open_artefact(plan.folder_path(ref))), flush=True)


if __name__ == "__main__":
    main(*(sys.argv[1:] or USUAL))
