"""Generators: DERD's stage I, a generator and a warm student."""


rule generator:
    input:
        inputs("generator"),
    output:
        update(f"{STORE}/generator/{{key}}/manifest.json"),
    params:
        name=label("generator"),
    message:
        "{params.name}"
    priority: 85
    threads: workers("generator")
    resources:
        **resources("generator"),
    shell:
        stage("warm_generator", "generator")
