from personascope.aggregate import aggregate_residuals
from personascope.errors import job

with job(snakemake.log[0]):
    files = dict(zip(snakemake.params.roles, snakemake.input.residuals, strict=True))
    matrix, layers = aggregate_residuals(files)
    matrix.save(snakemake.output.vectors, layers=layers)
