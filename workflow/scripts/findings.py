from personascope.drift.pages.findings import write_findings
from personascope.runs.job import job

with job(snakemake):
    write_findings(
        **dict(snakemake.input.items()), figures=snakemake.params.figures, **dict(snakemake.output.items())
    )
