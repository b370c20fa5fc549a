# In: what all other stages have made. Out: one page in which roles, features and drift explain each other.


rule explorer:
    """The experiment's page, which opens from disk; above explorer.inline_mb its data lie beside it."""
    input:
        *(E.responses, E.features, E.role_matrix, E.axis_tables),
        *(E.tokens, E.null_reports, E.drift, E.drift_results, E.summary),
        *(E.trait_results, E.traces, E.steering, E.causal, E.explained),
        descriptions=E.descriptions,
    output:
        page=report(
            "<out>/explorer/index.html",
            caption="../report/explorer.rst",
            category="0. Explorer",
            labels={"kind": "explorer"},
        ),
    log:
        "<log>/explorer/explorer.log",
    benchmark:
        "<bench>/explorer/explorer.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        settings=E.explorer_params,
        template=E.explorer_template,
        code=code_hash("explorer.bundle"),
    script:
        "../scripts/explorer.py"
