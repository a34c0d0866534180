"""Evaluations: one job a model and suite."""


rule evaluation:
    input:
        inputs("evaluation"),
    output:
        update(f"{STORE}/evaluation/{{key}}/manifest.json"),
    params:
        name=label("evaluation"),
    message:
        "{params.name}"
    priority: 40
    threads: workers("evaluation")
    resources:
        gpu=gpus("evaluation"),
        mem_mb=4000,
    shell:
        stage("evaluate", "evaluation")
