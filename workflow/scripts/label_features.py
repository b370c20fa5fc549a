from personascope.explorer.label_features import write_local
from personascope.runs.job import job

with job(snakemake):
    write_local(**dict(snakemake.input.items()), k=snakemake.params.k, made=dict(snakemake.output.items()))
