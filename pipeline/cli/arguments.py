"""The verbs of the command line and their options.

A stage's verb makes an artefact; jobs call it, and the first help page leaves it out. Every other
verb names its room and module, whose ``run_verb(options)`` does the work. The module is imported
only when the verb is called.
"""

import argparse
from importlib.metadata import version
from pathlib import Path

from rich_argparse import RawDescriptionRichHelpFormatter

from pipeline.cli.parsing.model_verbs import add_model_verbs
from pipeline.cli.parsing.verb_parser import (
    CONFIGURATION,
    add_configuration_option,
    add_configured_verb,
    add_verb,
)
from pipeline.errors import COMMAND
from pipeline.store.artefact import STAGES_BY_KIND

DESCRIPTION = """Distil small robust image classifiers. A configuration names data, teachers, banks
of adversarial samples, students and attacks; each is made once and kept in the store."""
FIRST_STEPS = f"""first steps:
  {COMMAND} init --images photos   write config.yaml for a folder of images (or --preset NAME)
  {COMMAND} run                    make everything that it names
  {COMMAND} results                print the table and where the report is"""


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    top = argparse.ArgumentParser(
        COMMAND,
        description=DESCRIPTION,
        epilog=FIRST_STEPS,
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"{COMMAND} {version('retort')}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb", title="verbs")
    for add in (
        add_init_verb,
        add_plan_verbs,
        add_run_verb,
        add_result_verbs,
        add_artefact_verbs,
        add_model_verbs,
        add_store_verbs,
        add_check_verb,
        add_bank_verb,
        add_import_verb,
        add_completion_verb,
        add_stage_verbs,
    ):
        add(verbs)
    return top


def add_init_verb(verbs) -> None:
    """A folder to begin in."""
    what = "write a commented config.yaml and a .gitignore"
    verb = add_verb(verbs, "init", ("cli", "init_folder"), what, "init --images photos")
    verb.add_argument(
        "folder", type=Path, nargs="?", default=Path(), help="where; here unless given"
    )
    source = verb.add_mutually_exclusive_group()
    source.add_argument("--preset", metavar="NAME", help="begin with this preset's configuration")
    source.add_argument(
        "--images", type=Path, metavar="FOLDER", help="begin with images, one folder a class"
    )
    source.add_argument("--list", action="store_true", help="print the presets")


def add_run_verb(verbs) -> None:
    """Snakemake."""
    what = "make what the configuration names and what is not made yet"
    verb = add_verb(verbs, "run", ("cli", "run_workflow"), what, "run --cores all --dry-run")
    add_configuration_option(verb, "+")
    verb.add_argument("--cores", metavar="N", help="how many cores; all unless given")
    profile = "slurm, a folder with a profile, or one in ~/.config/snakemake by its name"
    verb.add_argument("--profile", metavar="NAME", help=profile)
    verb.add_argument("-n", "--dry-run", action="store_true", help="only say what would run")
    verb.epilog += "\n\nEvery other option goes to snakemake, such as --until dataset or --jobs 50."


def add_artefact_verbs(verbs) -> None:
    """One artefact."""
    what = "print an artefact's spec, inputs, facts, files and the end of its log"
    verb = add_configured_verb(
        verbs, "show", ("cli", "show_artefact"), what, "show student/adaad-0", files=1
    )
    verb.add_argument("name", help="<kind>/<name>, a name, <kind>/<key> or a key")
    what = "say what would run for an artefact, and what its key differs in from those made"
    verb = add_configured_verb(
        verbs, "why", ("cli", "explain_key"), what, "why student/adaad-0", files=1
    )
    verb.add_argument("name", help="<kind>/<name>, a name, <kind>/<key> or a key")


def add_completion_verb(verbs) -> None:
    """Shells."""
    what = "print a script that completes verbs and options in a shell"
    example = "completion bash > ~/.local/share/bash-completion/completions/retort"
    verb = add_verb(verbs, "completion", ("cli", "complete_shell"), what, example)
    verb.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")


def add_stage_verbs(verbs) -> None:
    """One verb a stage, without an entry on the first help page."""
    for kind, stage in STAGES_BY_KIND.items():
        verb = verbs.add_parser(stage, description=f"Make one {kind}; jobs call this.")
        verb.add_argument("folder", type=Path, help="store/<kind>/<key>, with its spec.json")
        if stage == "build_bank":
            verb.add_argument(
                "--shards", metavar="A:B", help="only shards A to B-1, without the manifest"
            )


def add_plan_verbs(verbs) -> None:
    """The graph and its cost, before anything runs."""
    what = "print the graph: kind, name, key, made or missing"
    verb = add_configured_verb(verbs, "plan", ("cli", "inspect_plan"), what, "plan")
    verb.add_argument("--write", action="store_true", help="write each missing spec.json")
    what = "print what each artefact will take: images, GFLOP, hours, bytes; what is made, at zero"
    verb = add_configured_verb(verbs, "cost", ("cli", "cost_report"), what, "cost --gflops 20000")
    verb.add_argument(
        "--gflops", type=float, metavar="RATE", help="GFLOP per second, in place of a measured rate"
    )


def add_result_verbs(verbs) -> None:
    """How far it is, and what came out."""
    what = "say what is made, running, unfinished or missing, and what other code has made"
    add_configured_verb(verbs, "status", ("upkeep", "status"), what, "status")
    what = "print the newest report's table and its place, or its numbers as data"
    module, example = ("cli", "show_results"), "results --by objective,eps --latex"
    verb = add_configured_verb(verbs, "results", module, what, example)
    by = "means ± sd over seeds, a row for each value of these columns of results.csv"
    verb.add_argument("--by", metavar="COLUMN,…", help=by)
    forms = verb.add_mutually_exclusive_group()
    for form in ("csv", "json", "latex", "markdown"):
        forms.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, help=f"print {form}"
        )


def add_import_verb(verbs) -> None:
    """Foreign files made readable."""
    what = "take the tensors out of a checkpoint that holds more than tensors; runs nothing in it"
    verb = add_verb(
        verbs, "import", ("cli", "import_checkpoint"), what, "import model.pth model.safetensors"
    )
    verb.add_argument("file", type=Path, help="a file of torch.save or torch.jit.save")
    verb.add_argument("out", type=Path, help="where to write them, as .safetensors")
    verb.add_argument("--sha256", help="the file's sum; needed where it is a TorchScript archive")
    verb.add_argument("--take", metavar="NAME", help="the part to keep, such as state_dict_ema")


def add_bank_verb(verbs) -> None:
    """Tools for a bank's folder."""
    what = "look at, check, mend, decode or merge a bank"
    module, folder = ("cli", "bank_tools"), "store/by-name/bank/dad"
    tools = add_verb(verbs, "bank", module, what, f"bank info {folder}")
    tools = tools.add_subparsers(dest="tool", required=True, metavar="tool", title="tools")
    for name, what, rest in (
        ("verify", "name each shard that is cut, altered, missing or of another bank", "--mend"),
        ("info", "print counts, rates, bytes a sample and fields", ""),
        (
            "decode",
            "make the pixels of a bank of tokens, in the folder of its twin with pixels",
            "--to store/by-name/bank/pixels",
        ),
        ("merge", "copy shards made elsewhere into a bank and complete it", "/elsewhere/bank/dad"),
    ):
        tool = add_verb(tools, name, module, what, f"bank {name} {folder} {rest}".rstrip())
        tool.add_argument("folder", type=Path, help="store/bank/<key>, or a link to it")
        if name == "verify":
            mend = "have the next run make what is broken again, and only that"
            tool.add_argument("--mend", action="store_true", help=mend)
        if name == "decode":
            tool.add_argument("--to", type=Path, required=True, help="the twin's folder")
        if name == "merge":
            tool.add_argument("others", type=Path, nargs="+", help="the same bank's other folders")


def add_store_verbs(verbs) -> None:
    """What lies in the store."""
    what = "check every file against its sum, and name what is altered, truncated or missing"
    verb = add_configured_verb(verbs, "verify", ("upkeep", "verify"), what, "verify --mend")
    verb.epilog += (
        "\n\nNot checked, since no result depends on them: attempts/* (logs and costs) and "
        "groups/*.json\n(markers for Snakemake) in an artefact's folder."
    )
    verb.add_argument("--all", action="store_true", help="the whole store, not the configuration")
    verb.add_argument("--mend", action="store_true", help="have what is broken made again")
    what = "list what no configuration given refers to, and what dead jobs left"
    verb = add_verb(
        verbs, "prune", ("upkeep", "prune"), what, "prune --configfile a.yaml b.yaml --delete"
    )
    verb.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[CONFIGURATION],
        metavar="FILE",
        help="every configuration that shares the store, not merged; config.yaml unless given",
    )
    verb.add_argument("--delete", action="store_true", help="delete what is listed")
    add_transfer_verb(verbs)


def add_transfer_verb(verbs) -> None:
    """Artefacts between stores."""
    what = "carry finished artefacts between stores, checked on arrival"
    module = ("upkeep", "transfer")
    example = "store export bank/dad --with-inputs --to dad.tar"
    ways = add_verb(verbs, "store", module, what, example)
    ways = ways.add_subparsers(dest="way", required=True, metavar="way", title="ways")
    way = add_configured_verb(
        ways, "export", module, "write artefacts into a tar", example, files=1
    )
    way.add_argument("artefacts", nargs="+", help="<kind>/<name>, a name, <kind>/<key> or a key")
    way.add_argument(
        "--to", type=Path, required=True, metavar="FILE.tar", help="the tar; it must not exist yet"
    )
    way.add_argument("--with-inputs", action="store_true", help="and all they are made from")
    way = add_configured_verb(
        *(ways, "import", module, "check a tar and put its artefacts in place"),
        "store import dad.tar",
        files=1,
    )
    way.add_argument("file", type=Path, help="a tar that 'store export' wrote")


def add_check_verb(verbs) -> None:
    """The user's own plug-ins."""
    what = "try each of your own plug-ins on tiny networks; one line each: ok, or what is missing"
    verb = add_verb(verbs, "check", ("cli", "check_plugins"), what, "check my_methods/")
    verb.add_argument("folders", type=Path, nargs="*", help="such as my_methods/")
    kinds = ("objective", "attack", "dataset", "architecture", "generator_loss")
    verb.add_argument("--example", choices=kinds, help="print the smallest valid file of a kind")
    verb.add_argument("--data", type=Path, default=Path("data"), help="where data sets lie")
