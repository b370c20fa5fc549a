from personascope.drift.validation.report import write_report
from personascope.runs.job import job

with job(snakemake):
    write_report(snakemake.input.tables, snakemake.output.page)
