from personascope.hosting import client
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    config = snakemake.config
    request = {
        "conversation": snakemake.input.conversation,
        "model": snakemake.params.model | {k: config["model"][k] for k in ("device", "device_map")},
        "sae": snakemake.params.sae,
        "residual_layers": snakemake.params.residual_layers,
        "chunk_tokens": config["extraction"]["chunk_tokens"],
        "too_long": snakemake.params.too_long,
        "store": config["store"],
        "code": snakemake.params.code,
    }
    client.extract_conversation(request, snakemake.output.tokens, host_log="logs/model_host.log")
