from personascope.directions.traits.report import write_evaluation
from personascope.directions.traits.rows import Thresholds
from personascope.runs.job import job

with job(snakemake):
    files, params = snakemake.input, snakemake.params
    judged = {name: files.get(name) for name in ("judgements", "worth")}
    write_evaluation(
        *(files.responses, files.activations, files.vectors),
        **judged,
        limits=Thresholds(params.threshold, params.coherence),
        **{name: params[name] for name in ("filter", "seed", "subtitle")},
        outputs=dict(snakemake.output.items()),
    )
