from personascope.directions.figures.personas import draw_persona_figures
from personascope.runs.job import job

with job(snakemake):
    paths = [*snakemake.output.png, *snakemake.output.svg]
    draw_persona_figures(**dict(snakemake.input.items()), paths=paths, subtitle=snakemake.params.subtitle)
