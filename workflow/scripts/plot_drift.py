from personascope.drift.pages.plot import plot_run
from personascope.runs.job import job

with job(snakemake):
    given, made = snakemake.input, snakemake.output
    plot_run(given.result, [*made.png, *made.svg], made.heat, given.descriptions)
