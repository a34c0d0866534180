"""What every rule shares: where an artefact's inputs are, and how its stage is called."""

import shlex

PYTHON = shlex.quote(sys.executable)
GPUS = int(PLAN is not None and config.get("device", "cpu") == "cuda")


def order(kind, wildcards):
    """Kind, specification and way of running of an artefact: the plan's, or in a job its own."""
    ref = f"{kind}/{wildcards.key}"
    if PLAN is not None and ref in PLAN.entries:
        return kind, PLAN.entries[ref].spec, PLAN.run
    written = read_json(Path(STORE) / ref / "spec.json", "run snakemake from the start")
    return kind, written["spec"], written["run"]


def workers(kind):
    """How many processes make an artefact; each has a thread."""
    return lambda wildcards: processes(*order(kind, wildcards))


def gpus(kind):
    """How many GPUs a job takes: one a process, none on the CPU."""
    return lambda wildcards: GPUS * processes(*order(kind, wildcards))


def inputs(kind):
    """The manifests an artefact is made from: the plan's, or in a job its folder's spec.json's."""

    def find(wildcards):
        ref = f"{kind}/{wildcards.key}"
        if PLAN is not None and ref in PLAN.entries:
            refs = [entry.ref for entry in PLAN.entries[ref].inputs.values()]
        else:
            spec = Path(STORE) / ref / "spec.json"
            refs = read_json(spec, "run snakemake from the start")["inputs"].values()
        return [ancient(f"{STORE}/{ref}/manifest.json") for ref in sorted(set(refs))]

    return find


def label(kind):
    """`kind name`, which says more to a reader than a key."""

    def name(wildcards):
        ref = f"{kind}/{wildcards.key}"
        if PLAN is not None and ref in PLAN.entries:
            return f"{kind} {PLAN.entries[ref].name}"
        return f"{kind} {wildcards.key}"

    return name


def stage(verb, kind):
    """The shell command of a stage."""
    return (
        f"OMP_NUM_THREADS={{threads}} {PYTHON} -m pipeline {verb} "
        f"{shlex.quote(str(STORE))}/{kind}/{{wildcards.key}}"
    )
