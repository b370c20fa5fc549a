from pathlib import Path

from personascope.embedded import fetch_embedded_model
from personascope.errors import job

with job(snakemake.log[0]):
    fetch_embedded_model(Path(snakemake.output.weights).parent)
