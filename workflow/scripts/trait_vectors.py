from personascope.directions.traits.rows import Thresholds
from personascope.directions.traits.vectors import write_trait_vectors
from personascope.runs.job import job

with job(snakemake):
    files, params = snakemake.input, snakemake.params
    judged = {name: files.get(name) for name in ("judgements", "worth")}
    write_trait_vectors(
        *(files.trait_file, files.responses, files.activations),
        **judged,
        filter=params.filter,
        limits=Thresholds(params.threshold, params.coherence),
        **dict(snakemake.output.items()),
    )
