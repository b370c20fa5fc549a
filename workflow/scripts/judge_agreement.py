from personascope.directions.judges import write_agreement
from personascope.runs.job import job

with job(snakemake):
    files = {
        part: dict(zip(snakemake.params.judges, snakemake.input[part], strict=True))
        for part in ("judgements", "retests")
    }
    write_agreement(snakemake.input.labeled, **files, output=snakemake.output.agreement)
