"""What every rule shares: where an artefact's inputs are, and how its stage is called."""

import json
import shlex

PYTHON = shlex.quote(sys.executable)


def find_job(kind, wildcards):
    """An artefact's spec, inputs and way of running: the plan's, or in a job its spec.json's."""
    ref = f"{kind}/{wildcards.key}"
    if PLAN is not None and ref in PLAN.artefacts:
        planned = PLAN.artefacts[ref]
        made_from = {role: source.ref for role, source in planned.inputs.items()}
        return {"spec": planned.spec, "inputs": made_from, "run": PLAN.run}
    path = Path(STORE) / ref / "spec.json"
    if not path.exists():
        raise WorkflowError(f"{path}: is missing; run 'retort run' from the start")
    return json.loads(path.read_text())


def alike(kind, asked):
    """What ``asked`` says of a kind's artefacts, as a function of a job's wildcards.

    It is a plain value where it is the same for all of them: Snakemake looks at a function's
    signature, several times, for every job.
    """
    planned = [e for e in PLAN.artefacts.values() if e.kind == kind] if PLAN is not None else []
    found = {asked(entry.spec, PLAN.run) for entry in planned}
    if len(found) == 1:
        return found.pop()

    def find(wildcards):
        written = find_job(kind, wildcards)
        return asked(written["spec"], written["run"])

    return find


def workers(kind):
    """How many processes make an artefact; each has a thread."""
    return alike(kind, lambda spec, run: count_processes(kind, spec, run))


def inputs(kind):
    """The manifests an artefact is made from."""

    def find(wildcards):
        refs = set(find_job(kind, wildcards)["inputs"].values())
        return [ancient(f"{STORE}/{ref}/manifest.json") for ref in sorted(refs)]

    return find


def resources(kind):
    """What a job asks for: more memory and time at every attempt.

    Run time and partition are given where the configuration says them, so that a profile's
    `default-resources` count elsewhere. A job on a cluster has been given all but its GPUs.
    """

    gpu = alike(kind, lambda spec, run: count_gpus(kind, spec, run, count_processes(kind, spec, run)))
    asked = resolve_resources(PLAN.run if PLAN is not None else {}, kind)
    found = {"gpu": gpu, "mem_mb": lambda wildcards, attempt: attempt * asked["mem_mb"]}
    if asked["runtime"] is not None:
        found["runtime"] = lambda wildcards, attempt: attempt * asked["runtime"]
    if asked["partition"] is not None:
        found["slurm_partition"] = asked["partition"]
    return found


def label(kind):
    """`kind name`, which says more to a reader than a key."""

    def name(wildcards):
        ref = f"{kind}/{wildcards.key}"
        if PLAN is not None and ref in PLAN.artefacts:
            return f"{kind} {PLAN.artefacts[ref].name}"
        return f"{kind} {wildcards.key}"

    return name


def stage(verb, kind):
    """The shell command of a stage, which takes the shell's place as Snakemake's child."""
    return (
        f"OMP_NUM_THREADS={{threads}} exec {PYTHON} -m pipeline {verb} "
        f"{shlex.quote(str(STORE))}/{kind}/{{wildcards.key}}"
    )
