from personascope.directions.steering.floors import write_floors
from personascope.runs.job import job

with job(snakemake):
    files, params = snakemake.input, snakemake.params
    options = {"layers": params.layers, "percentiles": params.percentiles}
    write_floors(files.tokens, files.axis, snakemake.output.floors, **options)
