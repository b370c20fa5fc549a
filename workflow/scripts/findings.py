from personascope.drift.pages.findings import write_findings
from personascope.runs.job import job

with job(snakemake):
    said = {name: snakemake.params[name] for name in ("figures", "notes")}
    write_findings(**dict(snakemake.input.items()), **said, **dict(snakemake.output.items()))
