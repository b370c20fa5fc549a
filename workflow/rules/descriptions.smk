# In: contexts of features from the pass that extracts them, tokens of conversations. Out: what each feature is called, and why.


rule conversation_contexts:
    """Texts of all conversations in which each feature is active, from their tokens; no model is loaded."""
    input:
        tokens=E.tokens,
    output:
        contexts="<out>/descriptions/<cell>/conversations.contexts.parquet",
        activity="<out>/descriptions/<cell>/conversations.activity.npz",
    log:
        "<log>/conversation_contexts/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(E.contexts_mb),
        runtime=scaled(30),
    params:
        k=E.contexts,
        code=code_hash("extraction.conversation_contexts"),
    script:
        "../scripts/conversation_contexts.py"


rule logit_lens:
    """Tokens that each feature's decoder row promotes and suppresses, through the model host."""
    input:
        E.model_files,
        E.sae_files,
    output:
        lens="<out>/descriptions/<cell>/logit_lens.npz",
    log:
        "<log>/logit_lens/<cell>.log",
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(60),
        gpu=E.gpus,
    params:
        **E.activation_params | {"residual_layers": []},  # none is read
        code=code_hash("hosting.operations.logit_lens"),
    script:
        "../scripts/ask_host.py"


rule label_features:
    """The contexts of each feature at several quantiles, and a label made from them by rule."""
    input:
        contexts=E.role_contexts("contexts"),
        activity=E.role_contexts("activity"),
        lens="<out>/descriptions/<cell>/logit_lens.npz",
    output:
        table="<out>/descriptions/<cell>/labels.parquet",
        contexts="<out>/descriptions/<cell>/response_contexts.parquet",
    log:
        "<log>/label_features/<cell>.log",
    benchmark:
        "<bench>/label_features/<cell>.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(E.contexts_mb),
        runtime=scaled(60),
    params:
        k=E.contexts,
        code=code_hash("explorer.label_features"),
    script:
        "../scripts/label_features.py"


rule feature_contexts:
    """The contexts of each feature in responses and in conversations, in one file. A new conversation changes it alone."""
    input:
        responses="<out>/descriptions/<cell>/response_contexts.parquet",
        talk_contexts=E.talk_contexts("contexts.parquet"),
        talk_activity=E.talk_contexts("activity.npz"),
    output:
        path="<out>/descriptions/<cell>/contexts.parquet",
    log:
        "<log>/feature_contexts/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(E.contexts_mb),
        runtime=scaled(30),
    params:
        code=code_hash("explorer.label_features"),
    script:
        "../scripts/feature_contexts.py"


rule describe_neuronpedia:
    """Descriptions of the features that say most of roles, from Neuronpedia, politely; what was fetched is kept."""
    input:
        labels="<out>/descriptions/<cell>/labels.parquet",
        axes="<out>/axis/<cell>/axis.npz",
        matrix="<out>/aggregated/<cell>/mean/per_role.npz",
    output:
        descriptions="<out>/descriptions/<cell>/neuronpedia.json",
    log:
        "<log>/describe_neuronpedia/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(120),
    params:
        **E.spec("descriptions", "neuronpedia"),
        store=config["store"],
        code=code_hash("backends.neuronpedia", "explorer.relevant"),
    script:
        "../scripts/describe_neuronpedia.py"


rule describe_llm:
    """Descriptions of the features that say most of roles, by an LLM that is shown their contexts."""
    input:
        labels="<out>/descriptions/<cell>/labels.parquet",
        contexts="<out>/descriptions/<cell>/response_contexts.parquet",
        axes="<out>/axis/<cell>/axis.npz",
        matrix="<out>/aggregated/<cell>/mean/per_role.npz",
    output:
        descriptions="<out>/descriptions/<cell>/llm.json",
    log:
        "<log>/describe_llm/<cell>.log",
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(120),
    params:
        **E.spec("descriptions", "llm"),
        store=config["store"],
        code=code_hash("generation.explain", "explorer.relevant"),
    script:
        "../scripts/describe_llm.py"


rule describe:
    """What each feature is called: its label, or a description from a cache, Neuronpedia or an LLM."""
    input:
        **E.description_sources,
        labels="<out>/descriptions/<cell>/labels.parquet",
    output:
        table="<out>/descriptions/<cell>/features.parquet",
        descriptions="<out>/descriptions/<cell>/descriptions.json",
    log:
        "<log>/describe/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        sources=list(E.description_sources),
        link=E.feature_link,
        code=code_hash("explorer.describe"),
    script:
        "../scripts/describe.py"
