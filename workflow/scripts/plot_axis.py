from personascope.directions.figures import AXIS_FIGURES
from personascope.display.figure import save_figure
from personascope.formats.tables import read_csv
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    draw = AXIS_FIGURES[snakemake.wildcards.figure]
    figure = draw(read_csv(snakemake.input.table), snakemake.params.assistant)
    save_figure(figure, snakemake.output.png, snakemake.output.svg)
