from pathlib import Path

from personascope.hosting import client
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    request = {
        "inputs": dict(snakemake.input.items()),
        "options": snakemake.params.options,
        "folder": str(Path(snakemake.output.arrays).parent),
        "names": [Path(path).stem for path in snakemake.output.tables],
    }
    client.analyse("drift_tables", request, host_log="logs/analysis_host.log")
