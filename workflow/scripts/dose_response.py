from personascope.directions.steering.report import write_dose_response
from personascope.directions.steering.sweep import read_sweep
from personascope.runs.job import job

with job(snakemake):
    files, made, params = snakemake.input, snakemake.output, snakemake.params
    judged = [files.get("judgements", []), files.get("worth", None)]
    sweep = read_sweep(params.points, files.measures, files.infos, *judged)
    figures = [made.png, made.svg]
    said = {"seed": params.seed, "subtitle": params.subtitle}
    write_dose_response(sweep, made.table, made.equal_kl, made.summary, figures, **said)
