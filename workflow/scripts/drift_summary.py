from personascope.drift.pages.summary import write_summary
from personascope.runs.job import job

with job(snakemake):
    given, params = snakemake.input, snakemake.params
    write_summary(given.summaries, given.nulls, params.figures, given.descriptions, **dict(snakemake.output.items()))
