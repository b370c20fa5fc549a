from personascope.drift.conversation import write_tables
from personascope.runs.job import job

with job(snakemake):
    write_tables(snakemake.input.result, snakemake.output.tables, snakemake.output.arrays, snakemake.input.descriptions)
