"""Discretisers: VQGANs that turn images into tokens and back."""


rule discretizer:
    input:
        inputs("discretizer"),
    output:
        update(f"{STORE}/discretizer/{{key}}/manifest.json"),
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=4000,
    shell:
        stage("train_discretizer", "discretizer")
