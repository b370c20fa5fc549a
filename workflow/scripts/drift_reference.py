from personascope.drift.calibration_report import write_reference
from personascope.drift.options import DriftOptions
from personascope.runs.job import job

with job(snakemake):
    files = {
        name: dict(zip(snakemake.params.roles, snakemake.input[name], strict=True)) for name in ("responses", "sums")
    }
    options = DriftOptions.of(**snakemake.params.options)
    sizes = {"draws": snakemake.params.draws, "seed": snakemake.params.seed}
    write_reference(**files, options=options, **sizes, **dict(snakemake.output.items()))
