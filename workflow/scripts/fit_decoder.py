from personascope.extraction.fit_decoder import write_fit
from personascope.models.saes import SAESpec
from personascope.runs.job import job

with job(snakemake):
    write_fit(SAESpec(**snakemake.params.sae), snakemake.input.targets, snakemake.output.fit)
