from personascope.directions.assistant_axis import write_assistant_axis
from personascope.directions.options import AxisOptions
from personascope.runs.job import job

with job(snakemake):
    parts = ("features", "residuals", "sums")
    files = {part: dict(zip(snakemake.params.roles, snakemake.input[part], strict=True)) for part in parts}
    matrices = {"mean": snakemake.input.mean, "residual": snakemake.input.residual or None}
    options, seed = AxisOptions.of(**snakemake.params.options), snakemake.params.seed
    write_assistant_axis(**files, **matrices, options=options, seed=seed, **dict(snakemake.output.items()))
