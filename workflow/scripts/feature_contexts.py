from personascope.explorer.label_features import write_all_contexts
from personascope.runs.job import job

with job(snakemake):
    write_all_contexts(**dict(snakemake.input.items()), path=snakemake.output.path)
