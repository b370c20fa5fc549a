from personascope.hosting.client import ask
from personascope.runs.config import sizes
from personascope.runs.job import job

# Every rule that works through a host: what it names becomes the fields of the operation of its name (or of the one
# that it names, where it is a second rule for the same work).
with job(snakemake):
    params = dict(snakemake.params.items())
    request = {
        "op": params.pop("operation", snakemake.rule),
        "inputs": dict(snakemake.input.items()),
        "outputs": dict(snakemake.output.items()),
        "params": {name: value for name, value in params.items() if name != "host"},
        "wildcards": dict(snakemake.wildcards.items()),
        "sizes": sizes(snakemake.config) | {"mem_mb": snakemake.resources.mem_mb},
    }
    ask(params["host"], request, snakemake.config["experiment"])
