# SAE features and residual means of the responses of one role, through the model host.
rule extract:
    input:
        responses="<results>/responses/{question_mode}/{model}/{role}.jsonl",
        model=MODEL_FILES,
        sae=SAE_FILES,
    output:
        features=ensure(
            "<results>/features/{question_mode}/{model}_{sae}/{role}.parquet", non_empty=True
        ),
        residuals="<results>/features/{question_mode}/{model}_{sae}/{role}.residuals.parquet",
    log:
        "<logs>/extract/{question_mode}/{model}_{sae}/{role}.log",
    benchmark:
        "<benchmarks>/extract/{question_mode}/{model}_{sae}/{role}.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=model_memory,
        runtime=scaled(EXTRACT_MINUTES),
        gpu=GPU,
    params:
        model=MODEL_SPEC,
        sae=config["sae"],
        extraction=spec("extraction", "token_selection", "residual_layers"),
        code=code_hash("extract"),
    script:
        "../scripts/extract.py"
