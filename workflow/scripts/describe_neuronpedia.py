from personascope.backends.neuronpedia import write_fetched
from personascope.explorer.relevant import relevant_features
from personascope.runs.job import job

with job(snakemake):
    given, params = snakemake.input, snakemake.params
    features = relevant_features(given.labels, given.axes, given.matrix, params.neuronpedia["features"])
    write_fetched(features, params.neuronpedia, params.store, snakemake.output.descriptions)
