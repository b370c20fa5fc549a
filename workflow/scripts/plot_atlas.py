from personascope.explorer.figure import draw_atlas
from personascope.runs.job import job

with job(snakemake):
    draw_atlas(snakemake.input.layout, [snakemake.output.png, snakemake.output.svg], snakemake.params.subtitle)
