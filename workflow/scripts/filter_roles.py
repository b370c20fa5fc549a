from personascope.directions.options import AxisOptions
from personascope.directions.role_filter import FilterOptions, write_role_filter
from personascope.runs.job import job

with job(snakemake):
    params, inputs = snakemake.params, snakemake.input
    files = {
        part: dict(zip(params.roles, inputs[part], strict=True)) for part in ("responses", "features", "residuals")
    }
    write_role_filter(
        **files,
        roles=params.roles,
        judgements=dict(zip(params.judged, inputs.judgements, strict=True)),
        matrices={name: inputs[name] for name in ("mean", "residual") if inputs.get(name)},
        worth=inputs.worth,
        judge=params.judge,
        options=FilterOptions(**params.options),
        axis=AxisOptions.of(**params.axis),
        outputs=dict(snakemake.output.items()),
    )
