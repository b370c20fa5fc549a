# In: trait files, contrastive responses, judgements. Out: trait vectors and what they are worth.


rule generate_trait:
    """The responses of one trait, through the model host: both ends of its pairs, and neutral ones for evaluation."""
    input:
        E.model_files,
        trait_file=f"{config['traits']['folder']}/{{trait}}.json",
    output:
        responses=ensure("<out>/trait_responses/<model>/{trait}.jsonl", non_empty=True),
    log:
        "<log>/generate_trait/<model>/{trait}.log",
    benchmark:
        "<bench>/generate_trait/<model>/{trait}.tsv"
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(E.trait_minutes),
        gpu=E.gpus,
    params:
        **E.trait_params,
        code=code_hash(
            "hosting.operations.generate_trait", BACKENDS[config["generation"]["backend"]].module
        ),
    script:
        "../scripts/ask_host.py"


rule extract_trait:
    """The residual stream of all layers for the responses of one trait, in three readings, through the model host."""
    input:
        E.model_files,
        responses="<out>/trait_responses/<model>/{trait}.jsonl",
    output:
        activations="<out>/trait_activations/<model>/{trait}.npz",
    log:
        "<log>/extract_trait/<model>/{trait}.log",
    benchmark:
        "<bench>/extract_trait/<model>/{trait}.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(E.trait_minutes),
        gpu=E.gpus,
    params:
        **E.model_params,
        code=code_hash("hosting.operations.extract_trait"),
    script:
        "../scripts/ask_host.py"


rule trait_vectors:
    """The vectors of one trait, of all layers and three readings, from the responses that pass the filter."""
    input:
        **E.trait_judged,
        trait_file=f"{config['traits']['folder']}/{{trait}}.json",
        responses="<out>/trait_responses/<model>/{trait}.jsonl",
        activations="<out>/trait_activations/<model>/{trait}.npz",
    output:
        vectors="<out>/traits/<model>/{trait}/vectors.safetensors",
        attrition="<out>/traits/<model>/{trait}/attrition.csv",
    log:
        "<log>/trait_vectors/<model>/{trait}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(E.trait_mb),
        runtime=scaled(15),
    params:
        **E.trait_filter,
        code=code_hash("directions.traits.vectors"),
    script:
        "../scripts/trait_vectors.py"


rule evaluate_trait:
    """What the vectors of one trait are worth: on other questions, against the judge, and within their own making."""
    input:
        **E.trait_judged,
        responses="<out>/trait_responses/<model>/{trait}.jsonl",
        activations="<out>/trait_activations/<model>/{trait}.npz",
        vectors="<out>/traits/<model>/{trait}/vectors.safetensors",
    output:
        evaluation="<out>/traits/<model>/{trait}/evaluation.json",
        layers="<out>/traits/<model>/{trait}/layers.csv",
        projections="<out>/traits/<model>/{trait}/projections.csv",
        png=[
            report(
                f"<out>/traits/<model>/{{trait}}/{name}.png",
                caption=f"../report/trait_{name}.rst",
                category="6. Directions",
                labels={"kind": f"trait {name}", "trait": "{trait}", "model": E.model},
            )
            for name in ("evaluation", "screen")
        ],
        svg=[f"<out>/traits/<model>/{{trait}}/{name}.svg" for name in ("evaluation", "screen")],
    log:
        "<log>/evaluate_trait/<model>/{trait}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(E.trait_mb),
        runtime=scaled(30),
    params:
        **E.trait_filter,
        seed=config["drift"]["uncertainty"]["seed"],
        subtitle=E.model,
        code=code_hash("directions.traits.report"),
    script:
        "../scripts/evaluate_trait.py"


use rule export_vectors as export_trait with:
    input:
        vectors="<out>/traits/<model>/{trait}/vectors.safetensors",
    output:
        tensors="<out>/traits/<model>/{trait}/vectors.pt",
    log:
        "<log>/export_trait/<model>/{trait}.log",


rule compare_traits:
    """All traits side by side: cosines with each other, the assistant axis and roles; reliability by layer."""
    input:
        **E.trait_neighbors,
        vectors=[f"<out>/traits/<model>/{trait}/vectors.safetensors" for trait in E.traits],
        evaluations=[f"<out>/traits/<model>/{trait}/evaluation.json" for trait in E.traits],
        layers=[f"<out>/traits/<model>/{trait}/layers.csv" for trait in E.traits],
    output:
        table="<out>/traits/<model>/traits.csv",
        reliability="<out>/traits/<model>/reliability.csv",
        png=report(
            "<out>/traits/<model>/traits.png",
            caption="../report/traits.rst",
            category="6. Directions",
            labels={"kind": "traits", "trait": "all", "model": E.model},
        ),
        svg="<out>/traits/<model>/traits.svg",
    log:
        "<log>/compare_traits/<model>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(15),
    params:
        traits=E.traits,
        subtitle=E.model,
        code=code_hash("directions.traits.compare"),
    script:
        "../scripts/compare_traits.py"
