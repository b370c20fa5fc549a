from personascope.hosting import client
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    config = snakemake.config
    request = {
        "role_file": snakemake.input.role,
        "questions_file": snakemake.input.questions,
        "questions": snakemake.params.questions,
        "question_mode": snakemake.wildcards.question_mode,
        "model": snakemake.params.model | {k: config["model"][k] for k in ("device", "device_map")},
        "model_name": snakemake.wildcards.model,
        "backend": snakemake.params.backend,
        "engine": snakemake.params.engine,
        "backend_options": config["generation"]["backend_options"],
        **snakemake.params.sampling,
        "store": config["store"],
        "code": snakemake.params.code,
    }
    client.generate(request, snakemake.output.responses, host_log="logs/model_host.log")
