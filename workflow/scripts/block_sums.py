from personascope.directions.block_sums import block_sums
from personascope.runs.job import job

with job(snakemake):
    sums = block_sums(snakemake.input.features, snakemake.input.residuals, snakemake.params.blocks)
    sums.save(snakemake.output.sums)
