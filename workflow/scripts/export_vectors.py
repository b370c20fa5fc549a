from personascope.formats.directions import load_directions, save_pt
from personascope.runs.job import job

with job(snakemake):
    save_pt(snakemake.output.tensors, load_directions(snakemake.input.vectors))
