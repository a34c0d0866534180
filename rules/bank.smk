"""Banks: one job a group of shards, then one that writes the manifest over all of them."""


def groups(wildcards):
    """The markers of a bank's groups: the plan's, or in a job those that were made for it."""
    ref = f"bank/{wildcards.key}"
    if PLAN is not None and ref in PLAN.artefacts:
        return [ancient(f"{STORE}/{ref}/groups/{group}.json") for group in PLAN.list_shard_groups(ref)]
    return [ancient(str(path)) for path in sorted((Path(STORE) / ref).glob("groups/*.json"))]


rule bank_group:
    input:
        inputs("bank"),
    output:
        update(f"{STORE}/bank/{{key}}/groups/{{first,[0-9]+}}-{{stop,[0-9]+}}.json"),
    params:
        name=label("bank"),
    message:
        "{params.name} shards {wildcards.first}-{wildcards.stop}"
    priority: 80
    threads: 1
    resources:
        **resources("bank"),
    shell:
        stage("build_bank", "bank") + " --shards {wildcards.first}:{wildcards.stop}"


rule bank:
    input:
        inputs("bank"),
        groups,
    output:
        update(f"{STORE}/bank/{{key}}/manifest.json"),
    params:
        name=label("bank"),
    message:
        "{params.name}"
    priority: 80
    threads: 1
    resources:
        **resources("bank"),
    shell:
        stage("build_bank", "bank")
