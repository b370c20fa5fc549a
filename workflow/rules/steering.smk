# In: directions and the model. Out: traces of tokens along directions, and what steering along them does.


rule monitor:
    """What every token of one conversation projects on the directions of monitor.directions, and its surprise."""
    input:
        E.model_files,
        conversation_file=conversation_file,
        directions=list(E.monitor_directions().values()),
    output:
        trace="<out>/traces/<cell>/{conversation}.parquet",
    log:
        "<log>/monitor/<cell>/{conversation}.log",
    benchmark:
        "<bench>/monitor/<cell>/{conversation}.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(30),
        gpu=E.gpus,
    params:
        **E.model_params,
        **E.monitor_params,
        place=lambda wildcards: E.places.get(wildcards.conversation, {}),
        too_long=config["drift"]["too_long"],
        code=code_hash("hosting.operations.monitor"),
    script:
        "../scripts/ask_host.py"


rule monitor_scale:
    """What the assistant's tokens in reference conversations project on the directions: where traces have their zero."""
    input:
        tokens=E.reference_tokens,
        directions=list(E.monitor_directions().values()),
    output:
        scale="<out>/traces/<cell>/scale.json",
    log:
        "<log>/monitor_scale/<cell>.log",
    benchmark:
        "<bench>/monitor_scale/<cell>.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        **E.monitor_params,
        code=code_hash("directions.traces.scale"),
    script:
        "../scripts/monitor_scale.py"


rule plot_monitor:
    """A trace as a figure and as a page in which the text is colored by any of its directions."""
    input:
        trace="<out>/traces/<cell>/{conversation}.parquet",
        scale="<out>/traces/<cell>/scale.json",
        evidence=list(E.monitor_evidence.values()),
    output:
        png=report(
            "<out>/traces/<cell>/{conversation}.png",
            caption="../report/monitor.rst",
            category="3. Conversations",
            subcategory="{conversation}",
            labels={"kind": "trace"},
        ),
        svg="<out>/traces/<cell>/{conversation}.svg",
        page=report(
            "<out>/traces/<cell>/{conversation}.html",
            caption="../report/monitor.rst",
            category="3. Conversations",
            subcategory="{conversation}",
            labels={"kind": "tokens"},
        ),
    log:
        "<log>/plot_monitor/<cell>/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        names=list(E.monitor_evidence),
        code=code_hash("directions.traces.plot"),
    script:
        "../scripts/plot_monitor.py"


rule residual_norms:
    """How long the residual stream is at each layer over the assistant's tokens: the unit of a sweep's coefficients."""
    input:
        E.model_files,
        responses=f"<out>/responses/{E.mode}/<model>/{E.norms_role}.jsonl",
    output:
        norms="<out>/steering/<cell>/residual_norms.json",
    log:
        "<log>/residual_norms/<cell>.log",
    benchmark:
        "<bench>/residual_norms/<cell>.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(15),
        gpu=E.gpus,
    params:
        **E.model_params,
        most=64,
        code=code_hash("hosting.operations.residual_norms"),
    script:
        "../scripts/ask_host.py"


rule steer:
    """One point of a sweep, through the model host: the responses under an arm and a coefficient, and what they are."""
    input:
        E.model_files,
        unpack(lambda wildcards: E.sweep_inputs(wildcards.sweep)),
    output:
        responses="<out>/steering/<cell>/{sweep}/{arm}/{coefficient}.jsonl",
        measures="<out>/steering/<cell>/{sweep}/{arm}/{coefficient}.csv",
        info="<out>/steering/<cell>/{sweep}/{arm}/{coefficient}.json",
    log:
        "<log>/steer/<cell>/{sweep}/{arm}/{coefficient}.log",
    benchmark:
        "<bench>/steer/<cell>/{sweep}/{arm}/{coefficient}.tsv"
    wildcard_constraints:
        **E.sweep_wildcards,
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(60),
        gpu=E.gpus,
    params:
        **E.engine_params | {"max_tokens": lambda wildcards: E.sweep_tokens(wildcards.sweep)},
        options=lambda wildcards: E.sweep_options(wildcards.sweep),
        code=code_hash("hosting.operations.steer", "backends.local"),
    script:
        "../scripts/ask_host.py"


use rule judge as judge_steered with:
    input:
        E.model_files,
        judged="<out>/steering/<cell>/{sweep}/{arm}/{coefficient}.jsonl",
        rubric=lambda wildcards: E.sweep_questions_file(wildcards.sweep),
        coherence="resources/judge/coherence.txt",
    output:
        judgements="<out>/judgements/{judge}/steering/<cell>/{sweep}/{arm}/{coefficient}.parquet",
    log:
        "<log>/judge/{judge}/steering/<cell>/{sweep}/{arm}/{coefficient}.log",
    benchmark:
        "<bench>/judge/{judge}/steering/<cell>/{sweep}/{arm}/{coefficient}.tsv"
    wildcard_constraints:
        **E.sweep_wildcards,
    params:
        operation="judge",
        metrics=["trait", "coherence"],


rule dose_response:
    """A sweep's points beside each other: effects with intervals, compared at equal distance from the unsteered model."""
    input:
        unpack(lambda wildcards: E.dose_inputs(wildcards.sweep)),
    output:
        table="<out>/steering/<cell>/{sweep}/dose_response.csv",
        equal_kl="<out>/steering/<cell>/{sweep}/equal_kl.csv",
        summary="<out>/steering/<cell>/{sweep}/dose_response.json",
        png=report(
            "<out>/steering/<cell>/{sweep}/dose_response.png",
            caption="../report/dose_response.rst",
            category="7. Steering",
            labels={"kind": "dose response", "sweep": "{sweep}"},
        ),
        svg="<out>/steering/<cell>/{sweep}/dose_response.svg",
    log:
        "<log>/dose_response/<cell>/{sweep}.log",
    benchmark:
        "<bench>/dose_response/<cell>/{sweep}.tsv"
    wildcard_constraints:
        sweep=E.sweep_wildcards["sweep"],
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1500),
        runtime=scaled(15),
    params:
        points=lambda wildcards: E.sweep_points(wildcards.sweep),
        seed=config["steering"]["seed"],
        subtitle=E.model,
        code=code_hash("directions.steering.report"),
    script:
        "../scripts/dose_response.py"


rule cap_floors:
    """Where the axis is capped: percentiles of what the assistant's tokens project on it in plain conversations."""
    input:
        tokens=E.reference_tokens,
        axis="<out>/axis/<cell>/axis.npz",
    output:
        floors="<out>/steering/<cell>/capping/floors.json",
    log:
        "<log>/cap_floors/<cell>.log",
    benchmark:
        "<bench>/cap_floors/<cell>.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        layers=E.capping_layers if E.capping_points else [],
        percentiles=config["steering"]["capping"]["percentiles"],
        code=code_hash("directions.steering.floors"),
    script:
        "../scripts/cap_floors.py"


rule simulate_capped:
    """A script's conversations under a cap, through the model host, and their turns as the uncapped model reads them."""
    input:
        E.model_files,
        script_file=f"{config['drift']['simulations']['folder']}/{{script}}.json",
        axis="<out>/axis/<cell>/axis.npz",
        floors="<out>/steering/<cell>/capping/floors.json",
    output:
        conversations=[
            f"<out>/steering/<cell>/capping/{{cap}}/{{script}}-{sample}.json"
            for sample in range(config["steering"]["capping"]["samples"])
        ],
        turns="<out>/steering/<cell>/capping/{cap}/{script}.csv",
    log:
        "<log>/simulate_capped/<cell>/{cap}/{script}.log",
    benchmark:
        "<bench>/simulate_capped/<cell>/{cap}/{script}.tsv"
    wildcard_constraints:
        cap=r"none|[0-9.]+",
    conda:
        "../../envs/generation.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(60),
        gpu=E.gpus,
    params:
        **E.talk_params,
        layers=E.capping_layers if E.capping_points else [],
        code=code_hash("hosting.operations.simulate_capped", "backends.local"),
    script:
        "../scripts/ask_host.py"


rule capping:
    """What the cap does to the scripted conversations: projection by turn, share of capped tokens, perplexity."""
    input:
        turns=E.capping_files(".csv"),
        floors="<out>/steering/<cell>/capping/floors.json",
    output:
        table="<out>/steering/<cell>/capping/capping.csv",
        png=report(
            "<out>/steering/<cell>/capping/capping.png",
            caption="../report/capping.rst",
            category="7. Steering",
            labels={"kind": "capping"},
        ),
        svg="<out>/steering/<cell>/capping/capping.svg",
    log:
        "<log>/capping/<cell>.log",
    benchmark:
        "<bench>/capping/<cell>.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1500),
        runtime=scaled(15),
    params:
        layers=E.capping_layers if E.capping_points else [],
        subtitle=E.model,
        code=code_hash("directions.steering.capping"),
    script:
        "../scripts/capping.py"
