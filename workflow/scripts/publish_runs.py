from personascope.explorer.published import publish_runs
from personascope.runs.job import job

with job(snakemake):
    params = snakemake.params
    publish_runs(snakemake.input.summaries, snakemake.output.manifest, sae=params.sae, sensitive=params.sensitive)
