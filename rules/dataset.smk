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
        gpu=0,
        mem_mb=2000,
    shell:
        stage("prepare_data", "dataset")
