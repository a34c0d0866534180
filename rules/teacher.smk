"""Teachers: trained classifiers and zero-shot CLIPs."""


rule teacher:
    input:
        inputs("teacher"),
    output:
        update(f"{STORE}/teacher/{{key}}/manifest.json"),
    params:
        name=label("teacher"),
    message:
        "{params.name}"
    priority: 90
    threads: workers("teacher")
    resources:
        **resources("teacher"),
    shell:
        stage("train_teacher", "teacher")
