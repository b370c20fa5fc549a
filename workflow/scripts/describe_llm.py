from personascope.explorer.relevant import relevant_features
from personascope.generation.explain import write_explained
from personascope.runs.job import job

with job(snakemake):
    given, params = snakemake.input, snakemake.params
    features = relevant_features(given.labels, given.axes, given.matrix, params.llm["features"])
    write_explained(features, given.contexts, params.llm, params.store, snakemake.output.descriptions)
