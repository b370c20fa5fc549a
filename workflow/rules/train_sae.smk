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
    params:
        model=MODEL_SPEC,
        model_name=MODEL,
        options=config["train_sae"],
        code=code_hash("train_sae"),
    log:
        "<logs>/train_sae/{name}.log",
    benchmark:
        "<benchmarks>/train_sae/{name}.tsv"
    threads: workflow.cores
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=int(config["model"]["device"] == "cuda"),
    conda:
        "../../envs/extraction.yaml"
    script:
        "../scripts/train_sae.py"
