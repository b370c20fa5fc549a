from personascope.directions.figures import draw_axis_figure
from personascope.runs.job import job

with job(snakemake):
    figure, assistant = snakemake.wildcards.figure, snakemake.params.assistant
    draw_axis_figure(figure, snakemake.input.table, assistant, snakemake.output.png, snakemake.output.svg)
