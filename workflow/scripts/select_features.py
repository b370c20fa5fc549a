from personascope.explorer.selection import write_selection
from personascope.runs.job import job

with job(snakemake):
    given, params = snakemake.input, snakemake.params
    files = dict(zip(params.roles, given.features, strict=True))
    options = params.options | {"centered": bool(snakemake.wildcards.centered)}
    write_selection(given.matrix, files, snakemake.output.selection, **options)
