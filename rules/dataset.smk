"""Data sets: fetched once, cut to size, kept as tensors."""


rule dataset:
    input:
        inputs("dataset"),
    output:
        update(f"{STORE}/dataset/{{key}}/manifest.json"),
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
    shell:
        stage("prepare_data", "dataset")
