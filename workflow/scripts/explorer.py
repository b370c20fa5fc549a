from pathlib import Path

from personascope.explorer.bundle import Settings, told, write_explorer
from personascope.runs.job import job

with job(snakemake):
    page = snakemake.output.page
    # The configuration is shown, and no parameter: sizes and places are in it, whose change makes no result anew.
    shown = {"config": told(snakemake.config), "descriptions": list(snakemake.input.descriptions)}
    given = snakemake.params.settings | shown
    write_explorer(Path(page).parents[1], page, Settings.of(given), list(snakemake.input))
