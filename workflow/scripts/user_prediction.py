from personascope.drift.options import DriftOptions
from personascope.drift.user_prediction import write_user_prediction
from personascope.runs.job import job

with job(snakemake):
    options = DriftOptions.of(**snakemake.params.options)
    files = (list(snakemake.input.tokens), list(snakemake.input.user_means), snakemake.input.matrix)
    given = {name: snakemake.params[name] for name in ("layers", "seed")}
    write_user_prediction(*files, options, **given, table=snakemake.output.table)
