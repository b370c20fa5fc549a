from personascope.block_sums import block_sums
from personascope.errors import job

with job(snakemake.log[0]):
    sums = block_sums(snakemake.input.features, snakemake.input.residuals, snakemake.params.blocks)
    sums.save(snakemake.output.sums)
