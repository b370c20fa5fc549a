from personascope.drift.pages.causal import plot_causal
from personascope.runs.job import job

with job(snakemake):
    files, made = snakemake.input, snakemake.output
    plot_causal(files.causal, made.png, made.svg, files.get("judged", None), files.descriptions)
