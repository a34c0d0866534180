"""Data sets: fetched once, cut to size, kept as tensors."""


rule dataset:
    input:
        inputs("dataset"),
    output:
        update(f"{STORE}/dataset/{{key}}/manifest.json"),
    params:
        name=label("dataset"),
    message:
        "{params.name}"
    priority: 100
    threads: 1
    resources:
        **resources("dataset"),
    shell:
        stage("prepare_data", "dataset")
