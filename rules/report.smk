"""The report over everything that the configuration names."""


rule report:
    input:
        inputs("report"),
    output:
        update(f"{STORE}/report/{{key}}/manifest.json"),
    params:
        name=label("report"),
    message:
        "{params.name}"
    priority: 0
    threads: 1
    resources:
        **resources("report"),
    shell:
        stage("report", "report")
