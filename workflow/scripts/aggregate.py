from personascope.directions.aggregate import aggregate_features
from personascope.runs.job import job

with job(snakemake):
    files = dict(zip(snakemake.params.roles, snakemake.input.features, strict=True))
    for pooling, matrix in aggregate_features(files).items():
        matrix.save(snakemake.output[pooling])
