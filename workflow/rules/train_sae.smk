# An SAE of our own, on the activations of this experiment's responses; asked for by sae.path under results/saes.
rule train_sae:
    input:
        responses=RESPONSES,
        model=MODEL_FILES,
    output:
        config="<results>/saes/{name}/cfg.json",
        weights="<results>/saes/{name}/sae_weights.safetensors",
        card=report(
            "<results>/saes/{name}/README.md",
            caption="../report/train_sae.rst",
            category="SAE",
            labels={"SAE": "{name}"},
        ),
    log:
        "<logs>/train_sae/{name}.log",
    benchmark:
        "<benchmarks>/train_sae/{name}.tsv"
    conda:
        "../../envs/extraction.yaml"
    threads: 8
    resources:
        mem_mb=model_memory,
        runtime=scaled(240),
        gpu=GPU,
    params:
        model=MODEL_SPEC,
        model_name=MODEL,
        options=config["train_sae"],
        code=code_hash("train_sae"),
    script:
        "../scripts/train_sae.py"
