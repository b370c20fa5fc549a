# One vector a role: the role matrix in SAE space.
rule aggregate:
    input:
        features=collect(
            "<results>/features/{{question_mode}}/{{model}}_{{sae}}/{role}.parquet", role=ROLES
        ),
    output:
        mean="<results>/aggregated/{question_mode}/{model}_{sae}/mean/per_role.npz",
        max="<results>/aggregated/{question_mode}/{model}_{sae}/max/per_role.npz",
    log:
        "<logs>/aggregate/{question_mode}/{model}_{sae}.log",
    benchmark:
        "<benchmarks>/aggregate/{question_mode}/{model}_{sae}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        roles=ROLES,
        code=code_hash("aggregate"),
    script:
        "../scripts/aggregate.py"


# The same in residual space: persona vectors at the layers kept.
rule aggregate_residuals:
    input:
        residuals=collect(
            "<results>/features/{{question_mode}}/{{model}}_{{sae}}/{role}.residuals.parquet",
            role=ROLES,
        ),
    output:
        vectors="<results>/aggregated/{question_mode}/{model}_{sae}/residual/per_role.npz",
    log:
        "<logs>/aggregate_residuals/{question_mode}/{model}_{sae}.log",
    benchmark:
        "<benchmarks>/aggregate_residuals/{question_mode}/{model}_{sae}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        roles=ROLES,
        code=code_hash("aggregate"),
    script:
        "../scripts/aggregate_residuals.py"
