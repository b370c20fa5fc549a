from personascope.explorer.atlas import write_atlas
from personascope.runs.job import job

with job(snakemake):
    write_atlas(**dict(snakemake.input.items()), **dict(snakemake.output.items()), dataset=snakemake.params.dataset)
