from personascope.directions.traces.plot import plot_trace
from personascope.runs.job import job

with job(snakemake):
    figures = [snakemake.output.png, snakemake.output.svg]
    plot_trace(snakemake.input.trace, snakemake.input.scale, figures, snakemake.output.page)
