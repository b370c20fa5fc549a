# Both axes (diff, pc1) in SAE space and, where residuals are kept, on each layer, as arrays and tables.
rule assistant_axis:
    input:
        mean="<results>/aggregated/{question_mode}/{model}_{sae}/mean/per_role.npz",
        residual=branch(
            config["extraction"]["residual_layers"],
            then="<results>/aggregated/{question_mode}/{model}_{sae}/residual/per_role.npz",
            otherwise=[],
        ),
    output:
        arrays="<results>/axis/{question_mode}/{model}_{sae}/axis.npz",
        tables=report(
            expand(
                "<results>/axis/{{question_mode}}/{{model}}_{{sae}}/{name}.csv", name=AXIS_TABLES
            ),
            caption="../report/axis_tables.rst",
            category="Assistant axis",
            labels={"kind": "table", "questions": "{question_mode}", "model": "{model}"},
        ),
    log:
        "<logs>/assistant_axis/{question_mode}/{model}_{sae}.log",
    benchmark:
        "<benchmarks>/assistant_axis/{question_mode}/{model}_{sae}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(15),
    params:
        options=config["axis"],
        code=code_hash("assistant_axis"),
    script:
        "../scripts/assistant_axis.py"


rule plot_axis:
    input:
        table="<results>/axis/{question_mode}/{model}_{sae}/{figure}.csv",
    output:
        png=report(
            "<results>/axis/{question_mode}/{model}_{sae}/{figure}.png",
            caption="../report/axis_figures.rst",
            category="Assistant axis",
            labels={"kind": "{figure}", "questions": "{question_mode}", "model": "{model}"},
        ),
        svg="<results>/axis/{question_mode}/{model}_{sae}/{figure}.svg",
    log:
        "<logs>/plot_axis/{question_mode}/{model}_{sae}/{figure}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        assistant=config["axis"]["assistant_role"],
        code=code_hash("plot_axis"),
    script:
        "../scripts/plot_axis.py"
