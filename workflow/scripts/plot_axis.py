from personascope.directions.figures.plot import draw_axis_figures
from personascope.runs.job import job

with job(snakemake):
    paths = [*snakemake.output.png, *snakemake.output.svg]
    order, asked = snakemake.output.order, snakemake.params
    draw_axis_figures(snakemake.input.tables, paths, order=order, groups=asked.groups, subtitle=asked.subtitle)
