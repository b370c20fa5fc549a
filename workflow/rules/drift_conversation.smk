# One conversation under one named analysis, through the analysis host: no model, and no process start to speak of.
rule drift_conversation:
    input:
        tokens="<results>/conversations/{model}_{sae}/{conversation}.parquet",
        matrix=analysis_matrix,
        reference="<results>/drift_reference/{question_mode}/{model}_{sae}/{analysis}.npz",
    output:
        conversation="<results>/drift/{question_mode}/{model}_{sae}/{analysis}/{conversation}/conversation.json",
        summary="<results>/drift/{question_mode}/{model}_{sae}/{analysis}/{conversation}/summary.json",
        ui_bundle="<results>/drift/{question_mode}/{model}_{sae}/{analysis}/{conversation}/ui_bundle.json",
    log:
        "<logs>/drift_conversation/{question_mode}/{model}_{sae}/{analysis}/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=analysis_options,
        code=code_hash("drift_conversation"),
    script:
        "../scripts/drift_conversation.py"


# Every table as CSV, and the arrays: for the analyses under drift.tables, or any run by target.
rule drift_tables:
    input:
        tokens="<results>/conversations/{model}_{sae}/{conversation}.parquet",
        matrix=analysis_matrix,
        reference="<results>/drift_reference/{question_mode}/{model}_{sae}/{analysis}.npz",
    output:
        arrays="<results>/drift/{question_mode}/{model}_{sae}/{analysis}/{conversation}/arrays.npz",
        tables=expand(
            "<results>/drift/{{question_mode}}/{{model}}_{{sae}}/{{analysis}}/{{conversation}}/{name}.csv",
            name=DRIFT_TABLES,
        ),
    log:
        "<logs>/drift_tables/{question_mode}/{model}_{sae}/{analysis}/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=analysis_options,
        code=code_hash("drift_conversation"),
    script:
        "../scripts/drift_tables.py"


# Figures and the token heat page: for the analyses under drift.figures, or any run by target.
rule plot_drift:
    input:
        tokens="<results>/conversations/{model}_{sae}/{conversation}.parquet",
        matrix=analysis_matrix,
        reference="<results>/drift_reference/{question_mode}/{model}_{sae}/{analysis}.npz",
    output:
        png=report(
            expand(
                "<results>/drift/{{question_mode}}/{{model}}_{{sae}}/{{analysis}}/{{conversation}}/{name}.png",
                name=DRIFT_FIGURES,
            ),
            caption="../report/drift_figures.rst",
            category="Conversations",
            subcategory="{conversation}",
            labels={"analysis": "{analysis}", "kind": "figure"},
        ),
        svg=expand(
            "<results>/drift/{{question_mode}}/{{model}}_{{sae}}/{{analysis}}/{{conversation}}/{name}.svg",
            name=DRIFT_FIGURES,
        ),
        heat=report(
            "<results>/drift/{question_mode}/{model}_{sae}/{analysis}/{conversation}/token_heat.html",
            caption="../report/token_heat.rst",
            category="Conversations",
            subcategory="{conversation}",
            labels={"analysis": "{analysis}", "kind": "tokens"},
        ),
    log:
        "<logs>/plot_drift/{question_mode}/{model}_{sae}/{analysis}/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        options=analysis_options,
        code=code_hash("drift_conversation", "plot_drift"),
    script:
        "../scripts/plot_drift.py"
