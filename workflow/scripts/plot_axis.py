import pandas as pd

from personascope.errors import job
from personascope.figures import AXIS_FIGURES, save_figure

with job(snakemake.log[0]):
    draw = AXIS_FIGURES[snakemake.wildcards.figure]
    figure = draw(pd.read_csv(snakemake.input.table), snakemake.params.assistant)
    save_figure(figure, snakemake.output.png, snakemake.output.svg)
