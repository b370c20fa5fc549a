from personascope.directions.aggregate import aggregate_residuals, residual_description
from personascope.formats.tables import json_array
from personascope.runs.job import job

with job(snakemake):
    files = dict(zip(snakemake.params.roles, snakemake.input.residuals, strict=True))
    matrix, layers = aggregate_residuals(files)
    matrix.save(snakemake.output.vectors, layers=layers, metadata=json_array(residual_description(files)))
