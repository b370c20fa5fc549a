from personascope.drift.pages.ranking import write_summary
from personascope.runs.job import job

with job(snakemake):
    write_summary(snakemake.input.summaries, **dict(snakemake.output.items()))
