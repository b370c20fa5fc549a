from personascope.hosting import client
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    config = snakemake.config
    request = {
        "script": snakemake.input.script,
        "samples": snakemake.params.samples,
        "model": snakemake.params.model | {k: config["model"][k] for k in ("device", "device_map")},
        "model_name": snakemake.wildcards.model,
        "backend": snakemake.params.backend,
        "engine": snakemake.params.engine,
        "backend_options": config["generation"]["backend_options"],
        **snakemake.params.sampling,
        "store": config["store"],
        "code": snakemake.params.code,
    }
    client.simulate(request, snakemake.output.conversations, host_log="logs/model_host.log")
