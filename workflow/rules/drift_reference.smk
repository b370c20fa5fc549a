# What a score means: the scores of the role responses under an analysis, and how far its axis can be trusted.
rule drift_reference:
    input:
        features=collect(
            "<results>/features/{{question_mode}}/{{model}}_{{sae}}/{role}.parquet", role=ROLES
        ),
        residuals=collect(
            "<results>/features/{{question_mode}}/{{model}}_{{sae}}/{role}.residuals.parquet",
            role=ROLES,
        ),
        sums=collect(
            "<results>/block_sums/{{question_mode}}/{{model}}_{{sae}}/{role}.npz", role=ROLES
        ),
    output:
        reference="<results>/drift_reference/{question_mode}/{model}_{sae}/{analysis}.npz",
        calibration=report(
            "<results>/drift_reference/{question_mode}/{model}_{sae}/{analysis}.json",
            caption="../report/drift_reference.rst",
            category="Calibration",
            labels={"analysis": "{analysis}", "model": "{model}"},
        ),
    log:
        "<logs>/drift_reference/{question_mode}/{model}_{sae}/{analysis}.log",
    benchmark:
        "<benchmarks>/drift_reference/{question_mode}/{model}_{sae}/{analysis}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        roles=ROLES,
        options=analysis_options,
        draws=config["drift"]["uncertainty"]["draws"],
        seed=config["drift"]["uncertainty"]["seed"],
        code=code_hash("drift_reference"),
    script:
        "../scripts/drift_reference.py"
