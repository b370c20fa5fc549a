from personascope.drift.null import write_null
from personascope.drift.options import DriftOptions
from personascope.runs.job import job

with job(snakemake):
    options = DriftOptions.of(**snakemake.params.options)
    files = {"tokens": list(snakemake.input.tokens), "matrix": snakemake.input.matrix}
    write_null(**files, options=options, seed=snakemake.params.seed, **dict(snakemake.output.items()))
