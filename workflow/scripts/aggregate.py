from personascope.aggregate import aggregate_features
from personascope.errors import job

with job(snakemake.log[0]):
    files = dict(zip(snakemake.params.roles, snakemake.input.features, strict=True))
    for pooling, matrix in aggregate_features(files).items():
        matrix.save(snakemake.output[pooling])
