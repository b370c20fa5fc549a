from personascope.directions.decompose import write_targets
from personascope.directions.options import AxisOptions
from personascope.runs.job import job

with job(snakemake):
    given, params = snakemake.input, snakemake.params
    sums = dict(zip(params.roles, given.sums, strict=True))
    files = {"features": given.features, "matrix": given.matrix, "targets": snakemake.output.targets}
    options = AxisOptions.of(**params.options)
    write_targets(params.name, given.direction, params.how, sums=sums, options=options, seed=params.seed, **files)
