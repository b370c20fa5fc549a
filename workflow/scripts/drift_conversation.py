from personascope.hosting import client
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    request = {
        "inputs": dict(snakemake.input.items()),
        "options": snakemake.params.options,
        "name": snakemake.wildcards.analysis,
        "outputs": dict(snakemake.output.items()),
    }
    client.analyse("drift", request, host_log="logs/analysis_host.log")
