from personascope.drift.pages.causal import plot_causal
from personascope.runs.job import job

with job(snakemake):
    plot_causal(snakemake.input.causal, snakemake.output.png, snakemake.output.svg)
