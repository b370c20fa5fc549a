from personascope.directions.steering.capping import write_capping
from personascope.runs.job import job

with job(snakemake):
    files, made, params = snakemake.input, snakemake.output, snakemake.params
    options = {"layers": params.layers, "subtitle": params.subtitle}
    write_capping(files.turns, files.floors, made.table, [made.png, made.svg], **options)
