from personascope.directions.persona_vectors import write_persona_vectors
from personascope.runs.job import job

with job(snakemake):
    sums = dict(zip(snakemake.params.roles, snakemake.input.sums, strict=True))
    write_persona_vectors(snakemake.input.matrix, sums, snakemake.params.layers, **dict(snakemake.output.items()))
