from personascope.directions.traits.compare import write_comparison
from personascope.runs.job import job

with job(snakemake):
    files, params = snakemake.input, snakemake.params
    of_trait = {
        name: dict(zip(params.traits, files[name], strict=True)) for name in ("vectors", "evaluations", "layers")
    }
    beside = {name: files.get(name) for name in ("axis", "roles")}
    write_comparison(**of_trait, **beside, subtitle=params.subtitle, **dict(snakemake.output.items()))
