from personascope.drift.causal_judged import write_judged
from personascope.runs.job import job

with job(snakemake):
    given = snakemake.input
    write_judged(given.samples, given.judgements, given.worth, snakemake.output.judged)
