from personascope.explorer.layout import write_layout
from personascope.runs.job import job

with job(snakemake):
    options = {key: snakemake.params[key] for key in ("n_neighbors", "min_dist", "seed")}
    write_layout(**dict(snakemake.input.items()), **dict(snakemake.output.items()), **options)
