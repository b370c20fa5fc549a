# In: the roles' features and their matrix, drift runs. Out: the map of features as the original explorer opens it, and runs for its drift page.


rule select_features:
    """How reliably each feature differs between roles, and the features that the map shows."""
    input:
        matrix=E.atlas_matrix,
        features=[f"<out>/features/<cell>/{role}.parquet" for role in E.roles],
    output:
        selection="<out>/atlas/<cell>{centered}/selection.npz",
    log:
        "<log>/select_features/<cell>{centered}.log",
    benchmark:
        "<bench>/select_features/<cell>{centered}.tsv"
    wildcard_constraints:
        centered="|/centered",
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    resources:
        mem_mb=scaled(3000),
        runtime=scaled(30),
    params:
        roles=E.roles,
        options={key: config["atlas"][key] for key in ("pooling", "top_k", "split_seed")},
        code=code_hash("explorer.selection"),
    script:
        "../scripts/select_features.py"


rule layout:
    """Neighbors of features and their places on the map: of those selected, and of all that are alive."""
    input:
        matrix=E.atlas_matrix,
        selection="<out>/atlas/<cell>{centered}/selection.npz",
    output:
        selected="<out>/atlas/<cell>{centered}/map.npz",
        everything="<out>/atlas/<cell>{centered}/layout.npz",
    log:
        "<log>/layout/<cell>{centered}.log",
    benchmark:
        "<bench>/layout/<cell>{centered}.tsv"
    wildcard_constraints:
        centered="|/centered",
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    resources:
        mem_mb=scaled(3000),
        runtime=scaled(E.layout_minutes),
    params:
        **E.layout_params,
        code=code_hash("explorer.layout"),
    script:
        "../scripts/layout.py"


rule atlas_bundle:
    """The map with what is known of its features: bundle.json and features.csv, as the original explorer reads them."""
    input:
        matrix=E.atlas_matrix,
        selection="<out>/atlas/<cell>{centered}/selection.npz",
        layout="<out>/atlas/<cell>{centered}/map.npz",
        descriptions=E.descriptions,
    output:
        bundle="<out>/atlas/<cell>{centered}/bundle.json",
        table="<out>/atlas/<cell>{centered}/features.csv",
    log:
        "<log>/atlas_bundle/<cell>{centered}.log",
    wildcard_constraints:
        centered="|/centered",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        dataset=lambda wildcards, input: E.atlas_dataset(input.matrix),
        code=code_hash("explorer.atlas"),
    script:
        "../scripts/atlas_bundle.py"


rule plot_atlas:
    """The map as a figure, by preferred role and by score."""
    input:
        layout="<out>/atlas/<cell>{centered}/layout.npz",
    output:
        png=report(
            "<out>/atlas/<cell>{centered}/atlas.png",
            caption="../report/atlas.rst",
            category="8. Features",
            labels={"kind": "map"},
        ),
        svg="<out>/atlas/<cell>{centered}/atlas.svg",
    log:
        "<log>/plot_atlas/<cell>{centered}.log",
    wildcard_constraints:
        centered="|/centered",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        subtitle=E.subtitle,
        code=code_hash("explorer.figure"),
    script:
        "../scripts/plot_atlas.py"


rule publish_runs:
    """The drift runs of an analysis as the original's drift page reads them: a folder each, and their manifest."""
    input:
        [
            f"<out>/drift/<cell>/{{analysis}}/{talk}/{name}.json"
            for talk in E.conversations
            for name in ("conversation", "ui_bundle")
        ],
        summaries=[
            f"<out>/drift/<cell>/{{analysis}}/{talk}/summary.json" for talk in E.conversations
        ],
    output:
        E.published_files("conversation.json", "summary.json", "ui_bundle.json"),
        manifest="<out>/runs/{analysis}/runs_manifest.json",
    log:
        "<log>/publish_runs/{analysis}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(15),
    params:
        sae=E.sae,
        sensitive=E.sensitive,
        code=code_hash("explorer.published"),
    script:
        "../scripts/publish_runs.py"
