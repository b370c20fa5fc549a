from personascope import client
from personascope.errors import job

with job(snakemake.log[0]):
    request = {
        "inputs": dict(snakemake.input.items()),
        "options": snakemake.params.options,
        "name": snakemake.wildcards.analysis,
        "figures": [*snakemake.output.png, *snakemake.output.svg],
        "heat": snakemake.output.heat,
    }
    client.analyse("plot_drift", request, host_log="logs/analysis_host.log")
