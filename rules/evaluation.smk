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
        **resources("evaluation"),
    shell:
        stage("evaluate", "evaluation")
