from personascope.explorer.describe import write_described
from personascope.runs.job import job

with job(snakemake):
    given, params = snakemake.input, snakemake.params
    sources = {name: given[name] for name in params.sources}
    write_described(given.labels, sources, params.link, **dict(snakemake.output.items()))
