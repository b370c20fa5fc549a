# Token activations of one conversation, through the model host: one forward pass, and no model behind it.
rule extract_conversation:
    input:
        conversation=conversation_file,
        model=MODEL_FILES,
        sae=SAE_FILES,
    output:
        tokens="<results>/conversations/{model}_{sae}/{conversation}.parquet",
    log:
        "<logs>/extract_conversation/{model}_{sae}/{conversation}.log",
    benchmark:
        "<benchmarks>/extract_conversation/{model}_{sae}/{conversation}.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=model_memory,
        runtime=scaled(30),
        gpu=GPU,
    params:
        model=MODEL_SPEC,
        sae=config["sae"],
        residual_layers=config["extraction"]["residual_layers"],
        too_long=config["drift"]["too_long"],
        code=code_hash("extract_conversation"),
    script:
        "../scripts/extract_conversation.py"
