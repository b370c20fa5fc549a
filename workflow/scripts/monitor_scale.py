from personascope.directions.traces.scale import write_scale
from personascope.runs.job import job

with job(snakemake):
    params = snakemake.params
    files = dict(zip(params.names, snakemake.input.directions, strict=True))
    write_scale(snakemake.output.scale, snakemake.input.tokens, files, params.how, params.layers)
