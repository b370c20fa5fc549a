# In: features and residual means of all roles. Out: one vector a role, the assistant axis, and what the bootstrap needs.


rule aggregate:
    """One vector a role: the role matrix in SAE space."""
    input:
        features=[f"<out>/features/<cell>/{role}.parquet" for role in E.roles],
    output:
        mean="<out>/aggregated/<cell>/mean/per_role.npz",
        max="<out>/aggregated/<cell>/max/per_role.npz",
        mean_of_max="<out>/aggregated/<cell>/mean_of_max/per_role.npz",
    log:
        "<log>/aggregate/<cell>.log",
    benchmark:
        "<bench>/aggregate/<cell>.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        roles=E.roles,
        code=code_hash("directions.aggregate"),
    script:
        "../scripts/aggregate.py"


rule aggregate_residuals:
    """The same in residual space: persona vectors at the layers kept."""
    input:
        residuals=[f"<out>/features/<cell>/{role}.residuals.parquet" for role in E.roles],
    output:
        vectors="<out>/aggregated/<cell>/residual/per_role.npz",
    log:
        "<log>/aggregate_residuals/<cell>.log",
    benchmark:
        "<bench>/aggregate_residuals/<cell>.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        roles=E.roles,
        code=code_hash("directions.aggregate"),
    script:
        "../scripts/aggregate_residuals.py"


rule block_sums:
    """Sums of one role's features by instruction variant and block of questions: what the bootstrap resamples."""
    input:
        features="<out>/features/<cell>/{role}.parquet",
        residuals="<out>/features/<cell>/{role}.residuals.parquet",
    output:
        sums="<out>/block_sums/<cell>/{role}.npz",
    log:
        "<log>/block_sums/<cell>/{role}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(15),
    params:
        blocks=config["drift"]["uncertainty"]["blocks"],
        code=code_hash("directions.block_sums"),
    script:
        "../scripts/block_sums.py"


rule assistant_axis:
    """Both axes (diff, pc1) in SAE space and, where residuals are kept, on each layer, and how good they are."""
    input:
        features=axis_features,
        residuals=[f"<out>/features/<cell>/{role}.residuals.parquet" for role in E.roles],
        sums=[f"<out>/block_sums/<cell>/{role}.npz" for role in E.roles],
        mean="<out>/aggregated/<cell>/mean/per_role.npz",
        residual=branch(
            config["extraction"]["residual_layers"],
            then="<out>/aggregated/<cell>/residual/per_role.npz",
            otherwise=[],
        ),
    output:
        arrays="<out>/axis/<cell>/axis.npz",
        tables=[f"<out>/axis/<cell>/{name}.csv" for name in axis_options.TABLES],
    log:
        "<log>/assistant_axis/<cell>.log",
    benchmark:
        "<bench>/assistant_axis/<cell>.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        roles=E.roles,
        options=config["axis"],
        seed=config["drift"]["uncertainty"]["seed"],
        code=code_hash("directions.assistant_axis"),
    script:
        "../scripts/assistant_axis.py"


rule plot_axis:
    """All figures of the axis stage, from its tables."""
    input:
        tables=[f"<out>/axis/<cell>/{name}.csv" for name in axis_options.TABLES],
    output:
        png=[
            report(
                f"<out>/axis/<cell>/{file}.png",
                caption=f"../report/{figure}.rst",
                category="4. Assistant axis",
                labels={"kind": file, "questions": E.mode, "model": E.model},
            )
            for file, (figure, _) in E.axis_figures.items()
        ],
        svg=[f"<out>/axis/<cell>/{file}.svg" for file in E.axis_figures],
        order="<out>/axis/<cell>/role_order.csv",
    log:
        "<log>/plot_axis/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        groups=E.role_groups,
        subtitle=E.subtitle,
        code=code_hash("directions.figures.plot"),
    script:
        "../scripts/plot_axis.py"


rule persona_vectors:
    """Persona vectors at some layers as safetensors, their cosines and components, and how far halves of them agree."""
    input:
        matrix="<out>/aggregated/<cell>/residual/per_role.npz",
        sums=[f"<out>/block_sums/<cell>/{role}.npz" for role in E.roles],
    output:
        vectors="<out>/persona_vectors/<cell>/vectors.safetensors",
        cosine="<out>/persona_vectors/<cell>/cosine.csv",
        pca="<out>/persona_vectors/<cell>/pca.csv",
        roles="<out>/persona_vectors/<cell>/roles.csv",
    log:
        "<log>/persona_vectors/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(E.persona_mb),
        runtime=scaled(15),
    params:
        roles=E.roles,
        layers=E.persona_layers,
        code=code_hash("directions.persona_vectors"),
    script:
        "../scripts/persona_vectors.py"


rule export_vectors:
    """The persona vectors as plain tensors for torch.load: {role: [d_model]}, or [n_layers, d_model]."""
    input:
        vectors="<out>/persona_vectors/<cell>/vectors.safetensors",
    output:
        tensors="<out>/persona_vectors/<cell>/vectors.pt",
    log:
        "<log>/export_vectors/<cell>.log",
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        code=code_hash("formats.directions"),
    script:
        "../scripts/export_vectors.py"


rule plot_persona_vectors:
    """Cosines and components of the persona vectors."""
    input:
        cosine="<out>/persona_vectors/<cell>/cosine.csv",
        pca="<out>/persona_vectors/<cell>/pca.csv",
        roles="<out>/persona_vectors/<cell>/roles.csv",
    output:
        png=report(
            [f"<out>/persona_vectors/<cell>/{name}.png" for name in ("cosine", "pca")],
            caption="../report/persona_vectors.rst",
            category="6. Directions",
            labels={"kind": "persona vectors", "questions": E.mode, "model": E.model},
        ),
        svg=[f"<out>/persona_vectors/<cell>/{name}.svg" for name in ("cosine", "pca")],
    log:
        "<log>/plot_persona_vectors/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        groups=E.role_groups,
        subtitle=E.subtitle,
        code=code_hash("directions.figures.personas"),
    script:
        "../scripts/plot_persona_vectors.py"


rule decomposition_targets:
    """A direction at the SAE's layer, its contrast of features where means are kept, and random ones of both kinds."""
    input:
        direction=decomposed_file,
        features=f"<out>/features/<cell>/{E.roles[0]}.parquet",
        matrix="<out>/aggregated/<cell>/mean/per_role.npz",
        sums=[f"<out>/block_sums/<cell>/{role}.npz" for role in E.roles],
    output:
        targets="<out>/decomposition/<cell>/{direction}.targets.npz",
    log:
        "<log>/decomposition_targets/<cell>/{direction}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(E.targets_mb),
        runtime=scaled(30),
    params:
        roles=E.roles,
        name=lambda wildcards: E.decomposed[wildcards.direction],
        how=lambda wildcards: E.direction_options(E.decomposed[wildcards.direction]),
        options=config["axis"],
        seed=config["drift"]["uncertainty"]["seed"],
        code=code_hash("directions.decompose"),
    script:
        "../scripts/decomposition_targets.py"


rule decompose:
    """A direction in SAE features beside random directions: a table and a figure."""
    input:
        targets="<out>/decomposition/<cell>/{direction}.targets.npz",
        fit="<out>/decomposition/<cell>/{direction}.fit.npz",
        descriptions=E.descriptions,
    output:
        table="<out>/decomposition/<cell>/{direction}.csv",
        png=report(
            "<out>/decomposition/<cell>/{direction}.png",
            caption="../report/decompose.rst",
            category="6. Directions",
            labels={"kind": "in SAE features", "direction": "{direction}"},
        ),
        svg="<out>/decomposition/<cell>/{direction}.svg",
    log:
        "<log>/decompose/<cell>/{direction}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        name=lambda wildcards: E.decomposed[wildcards.direction],
        subtitle=E.subtitle,
        code=code_hash("directions.figures.decomposition"),
    script:
        "../scripts/decompose.py"


# The roles' vectors from the responses that a judge finds in the role, where that is asked for.
if E.role_filter_judge:

    rule filter_roles:
        """The role matrices of the responses that are fully in the role, and how far that moves the axis."""
        input:
            responses=E.responses,
            judgements=E.role_judgements,
            worth=f"<out>/judgements/{E.role_filter_judge}/worth.json",
            features=[f"<out>/features/<cell>/{role}.parquet" for role in E.roles],
            residuals=[f"<out>/features/<cell>/{role}.residuals.parquet" for role in E.roles],
            mean="<out>/aggregated/<cell>/mean/per_role.npz",
            residual=branch(
                config["extraction"]["residual_layers"],
                then="<out>/aggregated/<cell>/residual/per_role.npz",
                otherwise=[],
            ),
        output:
            **E.filtered_matrices,
            table="<out>/filtered/<cell>/role_filter.csv",
            axis_cosine="<out>/filtered/<cell>/axis_cosine.csv",
        log:
            "<log>/filter_roles/<cell>.log",
        benchmark:
            "<bench>/filter_roles/<cell>.tsv"
        conda:
            "../../envs/analysis.yaml"
        resources:
            mem_mb=scaled(2000),
            runtime=scaled(30),
        params:
            roles=E.roles,
            judged=E.judged_roles,
            judge=E.role_filter_judge,
            options={
                key: config["aggregation"]["role_filter"][key]
                for key in ("adherence", "min_count")
            },
            axis=config["axis"],
            code=code_hash("directions.role_filter"),
        script:
            "../scripts/filter_roles.py"
