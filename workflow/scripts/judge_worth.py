from personascope.directions.figures.judge import draw_worth
from personascope.directions.judges import write_worth
from personascope.runs.job import job

with job(snakemake):
    files = dict(snakemake.input.items())
    write_worth(**files, output=snakemake.output.worth)
    draw_worth(**files, worth=snakemake.output.worth, paths=[snakemake.output.png, snakemake.output.svg])
