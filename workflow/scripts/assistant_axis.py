from personascope.directions.axis import write_axis
from personascope.directions.options import AxisOptions
from personascope.runs.job import job

with job(snakemake):
    options = AxisOptions.of(**snakemake.params.options)
    write_axis(snakemake.input.mean, snakemake.input.residual or None, options, **dict(snakemake.output.items()))
