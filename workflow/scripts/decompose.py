from personascope.directions.figures.decomposition import write_decomposition
from personascope.runs.job import job

with job(snakemake):
    table, figures = snakemake.output.table, [snakemake.output.png, snakemake.output.svg]
    described = {"name": snakemake.params.name, "subtitle": snakemake.params.subtitle}
    write_decomposition(**dict(snakemake.input.items()), table=table, figures=figures, **described)
