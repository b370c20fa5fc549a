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
        code=code_hash("directions.traces.plot"),
    script:
        "../scripts/plot_monitor.py"
