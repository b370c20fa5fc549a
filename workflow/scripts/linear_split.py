from personascope.drift.linear_split import write_linear_split
from personascope.runs.job import job

with job(snakemake):
    files = (snakemake.input.tokens, snakemake.input.decoder, snakemake.output.table)
    write_linear_split(*files, snakemake.params.top_features, snakemake.input.descriptions)
