from pathlib import Path

from personascope.directions.axis import AxisOptions, axes_of_spaces, axis_arrays, axis_tables
from personascope.formats.tables import save_npz, write_csv
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    options = AxisOptions(
        **snakemake.params.options | {"roleplay_subset": tuple(snakemake.params.options["roleplay_subset"])}
    )
    axes = axes_of_spaces(snakemake.input.mean, snakemake.input.residual or None, options)
    tables = axis_tables(axes)
    for path in snakemake.output.tables:
        write_csv(path, tables[Path(path).stem])
    save_npz(snakemake.output.arrays, **axis_arrays(axes))
