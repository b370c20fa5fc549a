from pathlib import Path

from personascope.explorer.bundle import Settings, write_explorer
from personascope.runs.job import job

with job(snakemake):
    page = snakemake.output.page
    given = snakemake.params.settings | {"descriptions": list(snakemake.input.descriptions)}
    write_explorer(Path(page).parents[1], page, Settings.of(given), list(snakemake.input))
