from pathlib import Path

from personascope.models.embedded import fetch_embedded_model
from personascope.runs.job import job

with job(snakemake):
    fetch_embedded_model(Path(snakemake.output.weights).parent)
