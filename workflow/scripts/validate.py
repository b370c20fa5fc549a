from personascope.drift.validation.tables import write_table_of
from personascope.runs.job import job

with job(snakemake):
    write_table_of(snakemake.wildcards.table, snakemake.output.table, **dict(snakemake.params.simulation))
