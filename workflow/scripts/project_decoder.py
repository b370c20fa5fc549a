from personascope.extraction.project_decoder import write_decoder
from personascope.models.saes import SAESpec
from personascope.runs.job import job

with job(snakemake):
    write_decoder(SAESpec(**snakemake.params.sae), snakemake.input.axis, snakemake.output.decoder)
