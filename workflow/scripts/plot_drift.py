from personascope.drift.pages.plot import plot_conversation
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    plot_conversation(
        dict(snakemake.input.items()),
        snakemake.params.options,
        snakemake.wildcards.analysis,
        figures=[*snakemake.output.png, *snakemake.output.svg],
        heat=snakemake.output.heat,
    )
