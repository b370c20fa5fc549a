# In: responses and conversations. Out: what the model's activations are while it writes them.


rule extract:
    """SAE features and residual means of the responses of one role, through the model host."""
    input:
        E.model_files,
        E.sae_files,
        responses=f"<out>/responses/{E.mode}/<model>/{{role}}.jsonl",
    output:
        **E.context_outputs,
        features=ensure("<out>/features/<cell>/{role}.parquet", non_empty=True),
        residuals="<out>/features/<cell>/{role}.residuals.parquet",
    log:
        "<log>/extract/<cell>/{role}.log",
    benchmark:
        "<bench>/extract/<cell>/{role}.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(E.extract_minutes),
        gpu=E.gpus,
    params:
        **E.activation_params,
        **E.context_params,
        token_selection=config["extraction"]["token_selection"],
        code=code_hash("hosting.operations.extract"),
    script:
        "../scripts/ask_host.py"


rule extract_conversation:
    """One conversation through the model host: its assistant tokens, and the mean of what the user says before each turn."""
    input:
        E.model_files,
        E.sae_files,
        conversation_file=conversation_file,
    output:
        tokens="<out>/tokens/<model>_<sae>/{conversation}.parquet",
        user_means="<out>/tokens/<model>_<sae>/{conversation}.user_means.npz",
    log:
        "<log>/extract_conversation/<model>_<sae>/{conversation}.log",
    benchmark:
        "<bench>/extract_conversation/<model>_<sae>/{conversation}.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(30),
        gpu=E.gpus,
    params:
        **E.activation_params,
        place=lambda wildcards: E.places.get(wildcards.conversation, {}),
        too_long=config["drift"]["too_long"],
        code=code_hash("hosting.operations.extract_conversation"),
    script:
        "../scripts/ask_host.py"


rule project_decoder:
    """The SAE's decoder along the residual axes of its layer: once for an SAE and an axis; the model is not loaded."""
    input:
        E.sae_files,
        axis="<out>/axis/<cell>/axis.npz",
    output:
        decoder="<out>/decoder/<cell>/decoder.npz",
    log:
        "<log>/project_decoder/<cell>.log",
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(E.decoder_mb),
        runtime=scaled(15),
    params:
        sae=E.activation_params["sae"],
        code=code_hash("extraction.project_decoder"),
    script:
        "../scripts/project_decoder.py"


rule fit_decoder:
    """A direction and random ones as sums of few decoder rows of the SAE; the model is not loaded."""
    input:
        E.sae_files,
        targets="<out>/decomposition/<cell>/{direction}.targets.npz",
    output:
        fit="<out>/decomposition/<cell>/{direction}.fit.npz",
    log:
        "<log>/fit_decoder/<cell>/{direction}.log",
    benchmark:
        "<bench>/fit_decoder/<cell>/{direction}.tsv"
    conda:
        "../../envs/extraction.yaml"
    threads: 4
    resources:
        mem_mb=scaled(E.fit_mb),
        runtime=scaled(60),
    params:
        sae=E.activation_params["sae"],
        code=code_hash("extraction.fit_decoder"),
    script:
        "../scripts/fit_decoder.py"


# One that another experiment has trained is used as it is: its responses are not these.
if not E.trained_elsewhere:

    rule train_sae:
        """An SAE of our own, on the activations of this experiment's responses; asked for by sae.path under results/saes."""
        input:
            E.model_files,
            responses=E.responses,
        output:
            config="<results>/saes/{name}/cfg.json",
            weights="<results>/saes/{name}/sae_weights.safetensors",
            card=report(
                "<results>/saes/{name}/README.md",
                caption="../report/train_sae.rst",
                category="5. SAE",
                labels={"SAE": "{name}"},
            ),
        log:
            "<log>/train_sae/{name}.log",
        benchmark:
            "<bench>/train_sae/{name}.tsv"
        conda:
            "../../envs/extraction.yaml"
        threads: 8
        resources:
            mem_mb=scaled(E.model_mb),
            runtime=scaled(240),
            gpu=E.gpus,
        params:
            model=E.model_params["model"],
            model_name=E.model,
            options=config["train_sae"],
            code=code_hash("extraction.train_sae"),
        script:
            "../scripts/train_sae.py"
