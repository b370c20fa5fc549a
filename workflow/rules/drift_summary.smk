# All conversations and analyses side by side, ranked by drift.
rule drift_summary:
    input:
        summaries=DRIFT,
    output:
        table="<results>/drift_summary/{question_mode}/{model}_{sae}/drift_summary.parquet",
        csv="<results>/drift_summary/{question_mode}/{model}_{sae}/drift_summary.csv",
        detection=report(
            "<results>/drift_summary/{question_mode}/{model}_{sae}/detection.csv",
            caption="../report/detection.rst",
            category="All conversations",
            labels={"kind": "detection of simulated pressure"},
        ),
        page=report(
            "<results>/drift_summary/{question_mode}/{model}_{sae}/drift_ranking.html",
            caption="../report/drift_summary.rst",
            category="All conversations",
            labels={"kind": "ranking"},
        ),
        png=report(
            "<results>/drift_summary/{question_mode}/{model}_{sae}/drift_ranking.png",
            caption="../report/drift_summary.rst",
            category="All conversations",
            labels={"kind": "figure"},
        ),
        svg="<results>/drift_summary/{question_mode}/{model}_{sae}/drift_ranking.svg",
    log:
        "<logs>/drift_summary/{question_mode}/{model}_{sae}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(15),
    params:
        code=code_hash("drift_summary"),
    script:
        "../scripts/drift_summary.py"
