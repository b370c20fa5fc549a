from personascope.directions.traces.plot import plot_trace
from personascope.runs.job import job

with job(snakemake):
    read, written = snakemake.input, snakemake.output
    evidence = dict(zip(snakemake.params.names, read.evidence, strict=True))
    plot_trace(read.trace, read.scale, evidence, [written.png, written.svg], written.page)
