from personascope.hosting import client
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    config = snakemake.config
    request = {
        "responses": snakemake.input.responses,
        "model": snakemake.params.model | {k: config["model"][k] for k in ("device", "device_map")},
        "sae": snakemake.params.sae,
        **snakemake.params.extraction,
        **{k: config["extraction"][k] for k in ("batch_tokens", "chunk_tokens")},
        "store": config["store"],
        "code": snakemake.params.code,
    }
    client.extract(request, snakemake.output.features, snakemake.output.residuals, host_log="logs/model_host.log")
