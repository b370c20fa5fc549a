# In: nothing but seeds. Out: what the tests and intervals promise, measured on simulated data whose truth is known.


rule validate:
    """One table of the validation, simulated."""
    output:
        table="<out>/validation/{table}.csv",
    log:
        "<log>/validate/{table}.log",
    benchmark:
        "<bench>/validate/{table}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(60),
    params:
        simulation=config["validation"],
        code=code_hash("drift.validation.tables"),
    script:
        "../scripts/validate.py"


rule validation_page:
    """All tables of the validation as one page; docs/validation.md is a copy of it."""
    input:
        tables=[f"<out>/validation/{table}.csv" for table in VALIDATION_TABLES],
    output:
        page="<out>/validation/validation.md",
    log:
        "<log>/validation_page.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_hash("drift.validation.report"),
    script:
        "../scripts/validation_page.py"
