"""Teachers: trained classifiers and zero-shot CLIPs."""


rule teacher:
    input:
        inputs("teacher"),
    output:
        update(f"{STORE}/teacher/{{key}}/manifest.json"),
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=4000,
    shell:
        stage("train_teacher", "teacher")
