from pathlib import Path

from personascope.extraction.train_sae import TrainOptions, train_sae
from personascope.formats.files import iter_jsonl
from personascope.models.loading import ModelSpec, load_model, load_tokenizer
from personascope.runs.job import job

with job(snakemake):
    spec = ModelSpec(**snakemake.params.model, device=snakemake.config["model"]["device"])
    train_sae(
        load_tokenizer(spec),
        load_model(spec),
        [row for path in snakemake.input.responses for row in iter_jsonl(path)],
        TrainOptions(**snakemake.params.options),
        Path(snakemake.output.weights).parent,
        model_name=snakemake.params.model_name,
        experiment=snakemake.config["experiment"],
    )
