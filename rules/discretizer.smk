"""Discretisers: VQGANs that turn images into tokens and back."""


rule discretizer:
    input:
        inputs("discretizer"),
    output:
        update(f"{STORE}/discretizer/{{key}}/manifest.json"),
    params:
        name=label("discretizer"),
    message:
        "{params.name}"
    priority: 85
    threads: workers("discretizer")
    resources:
        **resources("discretizer"),
    shell:
        stage("train_discretizer", "discretizer")
