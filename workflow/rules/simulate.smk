# Conversations of the model with a scripted user, all samples of a script in one job, through the model host.
rule simulate:
    input:
        script=f"{config['drift']['simulations']['folder']}/{{script}}.json",
        model=MODEL_FILES,
    output:
        conversations=expand(
            "<results>/simulations/{{model}}/{{script}}-{sample}.json", sample=SAMPLES
        ),
    log:
        "<logs>/simulate/{model}/{script}.log",
    benchmark:
        "<benchmarks>/simulate/{model}/{script}.tsv"
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=model_memory,
        runtime=scaled(60),
        gpu=GPU,
    params:
        model=MODEL_SPEC,
        samples=len(SAMPLES),
        backend=config["generation"]["backend"],
        engine=ENGINE,
        sampling=spec("generation", "temperature", "top_p", "max_tokens", "max_model_len", "seed"),
        code=code_hash("simulate", f"generate:{config['generation']['backend']}"),
    script:
        "../scripts/simulate.py"
