from personascope.drift.pages.benchmark import write_benchmark
from personascope.runs.job import job

with job(snakemake):
    names = ("summaries", "results", "references", "nulls", "matrices")
    files = {name: list(snakemake.input[name]) for name in names}
    write_benchmark(snakemake.params.analyses, files, seed=snakemake.params.seed, **dict(snakemake.output.items()))
