from personascope.directions.figures.personas import draw_persona_figures
from personascope.runs.job import job

with job(snakemake):
    paths = [*snakemake.output.png, *snakemake.output.svg]
    tables, asked = dict(snakemake.input.items()), snakemake.params
    draw_persona_figures(**tables, paths=paths, groups=asked.groups, subtitle=asked.subtitle)
