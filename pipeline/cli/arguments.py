"""The verbs of the command line and their options.

A stage's verb makes an artefact. Every other verb names its room and module, imported only when it
is called, whose ``run_verb(options)`` does the work.
"""

import argparse
from pathlib import Path

from pipeline.errors import COMMAND
from pipeline.store.artefact import STAGES_BY_KIND


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    top = argparse.ArgumentParser(COMMAND, description="Retort's stages and tools.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb")
    for add in (
        add_stage_verbs,
        add_plan_verb,
        add_results_verb,
        add_import_verb,
        add_bank_verb,
        add_store_verbs,
        add_cost_verb,
    ):
        add(verbs)
    return top


def add_configured_verb(
    verbs, name: str, module: tuple[str, str], help_text: str
) -> argparse.ArgumentParser:
    """A verb of a module that reads a configuration."""
    verb = verbs.add_parser(name, help=help_text, description=help_text)
    verb.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    verb.set_defaults(module=module)
    return verb


def add_stage_verbs(verbs) -> None:
    """One verb a stage."""
    for stage in STAGES_BY_KIND.values():
        verb = verbs.add_parser(stage, help=f"make an artefact with stage {stage}")
        verb.add_argument("folder", type=Path, help="store/<kind>/<key>, with its spec.json")
        if stage == "build_bank":
            verb.add_argument(
                "--shards", metavar="A:B", help="only shards A to B-1, without the manifest"
            )


def add_plan_verb(verbs) -> None:
    """The graph."""
    what = "print the graph: kind, name, key, made or missing"
    verb = add_configured_verb(verbs, "plan", ("cli", "inspect_plan"), what)
    verb.add_argument("--write", action="store_true", help="write each missing spec.json")


def add_results_verb(verbs) -> None:
    """The main table."""
    what = "print the newest report's table and its place"
    add_configured_verb(verbs, "results", ("cli", "inspect_plan"), what)


def add_import_verb(verbs) -> None:
    """Foreign files made readable."""
    what = "take the tensors out of a checkpoint that holds more than tensors; runs nothing in it"
    verb = verbs.add_parser("import", help=what, description=what)
    verb.add_argument("file", type=Path, help="a file of torch.save or torch.jit.save")
    verb.add_argument("out", type=Path, help="where to write them, as .safetensors")
    verb.add_argument("--sha256", help="the file's sum; needed where it is a TorchScript archive")
    verb.add_argument("--take", metavar="NAME", help="the part to keep, such as state_dict_ema")
    verb.set_defaults(module=("cli", "import_checkpoint"))


def add_bank_verb(verbs) -> None:
    """Tools for a bank's folder."""
    what = "look at, check, mend, decode or merge a bank"
    tools = verbs.add_parser("bank", help=what, description=what).add_subparsers(
        dest="tool", required=True, metavar="tool"
    )
    for name, what in (
        ("verify", "name each shard that is cut, altered, missing or of another bank"),
        ("info", "print counts, rates, bytes a sample and fields"),
        ("decode", "make the pixels of a bank of tokens, in the folder of its twin with pixels"),
        ("merge", "copy shards that were made elsewhere into a bank and complete it"),
    ):
        tool = tools.add_parser(name, help=what, description=what)
        tool.add_argument("folder", type=Path, help="store/bank/<key>, or a link to it")
        tool.set_defaults(module=("cli", "bank_tools"))
        if name == "verify":
            mend = "have the next run make what is broken again, and only that"
            tool.add_argument("--mend", action="store_true", help=mend)
        if name == "decode":
            tool.add_argument("--to", type=Path, required=True, help="the twin's folder")
        if name == "merge":
            tool.add_argument("others", type=Path, nargs="+", help="the same bank's other folders")


def add_store_verbs(verbs) -> None:
    """What lies in the store."""
    what = "say what is made, running, unfinished or missing, and what other code has made"
    add_configured_verb(verbs, "status", ("upkeep", "status"), what)
    what = "check every file against its sum, and name what is altered, truncated or missing"
    verb = add_configured_verb(verbs, "verify", ("upkeep", "verify"), what)
    verb.epilog = (
        "Not checked, since no result depends on them: attempts/* (logs and costs) and "
        "groups/*.json (markers for Snakemake) in an artefact's folder."
    )
    verb.add_argument("--all", action="store_true", help="the whole store, not the configuration")
    verb.add_argument("--mend", action="store_true", help="have what is broken made again")
    what = "list what no configuration given refers to, and what dead jobs left"
    verb = verbs.add_parser("prune", help=what, description=what)
    verb.add_argument("--configfile", type=Path, nargs="+", default=[Path("config.yaml")])
    verb.add_argument("--delete", action="store_true", help="delete what is listed")
    verb.set_defaults(module=("upkeep", "prune"))
    add_transfer_verb(verbs)


def add_transfer_verb(verbs) -> None:
    """Artefacts between stores."""
    what = "carry finished artefacts between stores, checked on arrival"
    ways = verbs.add_parser("store", help=what, description=what)
    ways = ways.add_subparsers(dest="way", required=True, metavar="export|import")
    way = add_configured_verb(ways, "export", ("upkeep", "transfer"), "write artefacts into a tar")
    way.add_argument("artefacts", nargs="+", help="<kind>/<name>, a name, <kind>/<key> or a key")
    way.add_argument("--to", type=Path, required=True, metavar="FILE.tar")
    way.add_argument("--with-inputs", action="store_true", help="and all they are made from")
    way = add_configured_verb(
        ways, "import", ("upkeep", "transfer"), "check a tar and put its artefacts in place"
    )
    way.add_argument("file", type=Path)


def add_cost_verb(verbs) -> None:
    """What it will take."""
    what = "print what each artefact will take: images, GFLOP, hours, bytes; what is made, at zero"
    verb = add_configured_verb(verbs, "cost", ("cli", "cost_report"), what)
    verb.add_argument(
        "--gflops", type=float, metavar="RATE", help="GFLOP per second, in place of a measured rate"
    )
