from personascope.directions.block_sums import BlockSums
from personascope.drift.calibration_report import calibration_report
from personascope.drift.conversation import drift_options
from personascope.drift.reference import build
from personascope.formats.files import write_json
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    params, roles = snakemake.params, snakemake.params.roles
    options = drift_options(params.options)
    features = dict(zip(roles, snakemake.input.features, strict=True))
    residuals = dict(zip(roles, snakemake.input.residuals, strict=True))
    sums = {role: BlockSums.load(path) for role, path in zip(roles, snakemake.input.sums, strict=True)}
    reference = build(features, residuals, sums, options, params.draws, params.seed)
    reference.save(snakemake.output.reference)
    write_json(snakemake.output.calibration, calibration_report(reference, options, params.seed))
