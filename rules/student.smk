"""Students: one job an entry and seed."""


rule student:
    input:
        inputs("student"),
    output:
        update(f"{STORE}/student/{{key}}/manifest.json"),
    params:
        name=label("student"),
    message:
        "{params.name}"
    priority: 60
    threads: workers("student")
    resources:
        **resources("student"),
    shell:
        stage("distill", "student")
