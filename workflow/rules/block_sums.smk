# Sums of one role's features by instruction variant and block of questions: what the bootstrap resamples.
rule block_sums:
    input:
        features="<results>/features/{question_mode}/{model}_{sae}/{role}.parquet",
        residuals="<results>/features/{question_mode}/{model}_{sae}/{role}.residuals.parquet",
    output:
        sums="<results>/block_sums/{question_mode}/{model}_{sae}/{role}.npz",
    log:
        "<logs>/block_sums/{question_mode}/{model}_{sae}/{role}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(15),
    params:
        blocks=config["drift"]["uncertainty"]["blocks"],
        code=code_hash("block_sums"),
    script:
        "../scripts/block_sums.py"
