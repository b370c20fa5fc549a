from personascope.drift.pages.plot import plot_run
from personascope.runs.job import job

with job(snakemake):
    plot_run(snakemake.input.result, [*snakemake.output.png, *snakemake.output.svg], snakemake.output.heat)
