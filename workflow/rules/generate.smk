# The responses of one role, through the model host.
rule generate:
    input:
        role=f"{config['roles']['folder']}/{{role}}.json",
        questions=config["questions"]["file"],
        model=MODEL_FILES,
    output:
        responses=ensure("<results>/responses/{question_mode}/{model}/{role}.jsonl", non_empty=True),
    log:
        "<logs>/generate/{question_mode}/{model}/{role}.log",
    benchmark:
        "<benchmarks>/generate/{question_mode}/{model}/{role}.tsv"
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=model_memory,
        runtime=scaled(GENERATE_MINUTES),
        gpu=GPU,
    params:
        model=MODEL_SPEC,
        questions=config["questions"]["select"],
        backend=config["generation"]["backend"],
        engine=ENGINE,
        sampling=spec(
            "generation", "variants", "temperature", "top_p", "max_tokens", "max_model_len", "seed"
        ),
        code=code_hash("generate", f"generate:{config['generation']['backend']}"),
    script:
        "../scripts/generate.py"
