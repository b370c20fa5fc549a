# In: tokens of conversations, role vectors, the roles' own responses. Out: when a conversation leaves the assistant, and why.


rule drift_reference:
    """What a score means: the scores of the role responses under an analysis, and how far its axis can be trusted."""
    input:
        responses=response_files,
        sums=[f"<out>/block_sums/<cell>/{role}.npz" for role in E.roles],
    output:
        reference="<out>/reference/<cell>/{analysis}.npz",
        calibration="<out>/reference/<cell>/{analysis}.json",
    log:
        "<log>/drift_reference/<cell>/{analysis}.log",
    benchmark:
        "<bench>/drift_reference/<cell>/{analysis}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        roles=E.roles,
        options=lambda wildcards: E.reference_options(wildcards.analysis),
        draws=config["drift"]["uncertainty"]["draws"],
        seed=config["drift"]["uncertainty"]["seed"],
        code=code_hash("drift.reference", "drift.calibration_report"),
    script:
        "../scripts/drift_reference.py"


rule drift_null:
    """What conversations without drift score under an analysis: the test, calibrated on reference conversations."""
    input:
        tokens=E.reference_tokens,
        matrix=analysis_matrix,
    output:
        null="<out>/null/<cell>/{analysis}.npz",
        report="<out>/null/<cell>/{analysis}.json",
    log:
        "<log>/drift_null/<cell>/{analysis}.log",
    benchmark:
        "<bench>/drift_null/<cell>/{analysis}.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(E.drift_mb),
        runtime=scaled(30),
    params:
        options=lambda wildcards: E.null_options(wildcards.analysis),
        seed=config["drift"]["uncertainty"]["seed"],
        code=code_hash("drift.null"),
    script:
        "../scripts/drift_null.py"


rule drift_conversation:
    """One conversation under one named analysis, through the analysis host: no model, and no process start to speak of."""
    input:
        tokens="<out>/tokens/<model>_<sae>/{conversation}.parquet",
        matrix=analysis_matrix,
        reference="<out>/reference/<cell>/{analysis}.npz",
        null="<out>/null/<cell>/{analysis}.npz",
        causal=lambda wildcards: E.causal_test(wildcards.analysis, wildcards.conversation),
    output:
        conversation="<out>/drift/<cell>/{analysis}/{conversation}/conversation.json",
        summary="<out>/drift/<cell>/{analysis}/{conversation}/summary.json",
        ui_bundle="<out>/drift/<cell>/{analysis}/{conversation}/ui_bundle.json",
        result="<out>/drift/<cell>/{analysis}/{conversation}/result.npz",
    log:
        "<log>/drift_conversation/<cell>/{analysis}/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=E.drift_mb,
        runtime=10,
    params:
        host="analysis",
        options=lambda wildcards: E.analysis_options(wildcards.analysis),
        code=code_hash("hosting.operations.drift_conversation"),
    script:
        "../scripts/ask_host.py"


rule causal:
    """The causal test, through the model host: the features of a transition set back, on its own tokens and in new text."""
    input:
        E.model_files,
        E.sae_files,
        tokens="<out>/tokens/<model>_<sae>/{conversation}.parquet",
        matrix=analysis_matrix,
        axes="<out>/axis/<cell>/axis.npz",
        agreement="<out>/axis/<cell>/agreement.csv",
    output:
        causal="<out>/causal/<cell>/{analysis}/{conversation}.json",
        samples="<out>/causal/<cell>/{analysis}/{conversation}.samples.jsonl",
    log:
        "<log>/causal/<cell>/{analysis}/{conversation}.log",
    benchmark:
        "<bench>/causal/<cell>/{analysis}/{conversation}.tsv"
    conda:
        "../../envs/extraction.yaml"
    resources:
        mem_mb=scaled(E.model_mb),
        runtime=scaled(E.causal_minutes),
        gpu=E.gpus,
    params:
        **E.causal_params,
        options=lambda wildcards: E.analysis_options(wildcards.analysis),
        text_code=code_hash("generation.regenerate", "backends.local", "models.interventions"),
        code=code_hash("hosting.operations.causal"),
    script:
        "../scripts/ask_host.py"


use rule judge as judge_causal with:
    input:
        E.model_files,
        judged="<out>/causal/<cell>/{analysis}/{conversation}.samples.jsonl",
        rubric=lambda wildcards: E.causal_rubric(wildcards.analysis),
        coherence="resources/judge/coherence.txt",
    output:
        judgements="<out>/judgements/{judge}/causal/<cell>/{analysis}/{conversation}.parquet",
    log:
        "<log>/judge/{judge}/causal/<cell>/{analysis}/{conversation}.log",
    benchmark:
        "<bench>/judge/{judge}/causal/<cell>/{analysis}/{conversation}.tsv"
    params:
        operation="judge",
        metrics=["adherence", "coherence"],


rule causal_judged:
    """Effects of the causal test's patches on what a judge says of its texts."""
    input:
        samples="<out>/causal/<cell>/{analysis}/{conversation}.samples.jsonl",
        judgements="<out>/judgements/{judge}/causal/<cell>/{analysis}/{conversation}.parquet",
        worth="<out>/judgements/{judge}/worth.json",
    output:
        judged="<out>/judgements/{judge}/causal/<cell>/{analysis}/{conversation}.json",
    log:
        "<log>/causal_judged/{judge}/<cell>/{analysis}/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_hash("drift.causal_judged"),
    script:
        "../scripts/causal_judged.py"


rule plot_causal:
    """The causal test as a figure."""
    input:
        unpack(lambda wildcards: E.causal_judged(wildcards.analysis, wildcards.conversation)),
        causal="<out>/causal/<cell>/{analysis}/{conversation}.json",
        descriptions=E.descriptions,
    output:
        png=report(
            "<out>/causal/<cell>/{analysis}/{conversation}.png",
            caption="../report/causal.rst",
            category="3. Conversations",
            subcategory="{conversation}",
            labels={"analysis": "{analysis}", "kind": "causal test"},
        ),
        svg="<out>/causal/<cell>/{analysis}/{conversation}.svg",
    log:
        "<log>/plot_causal/<cell>/{analysis}/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_hash("drift.pages.causal"),
    script:
        "../scripts/plot_causal.py"


rule linear_split:
    """The residual projection of each turn, split over features by the SAE's decoder, with what the SAE does not see."""
    input:
        tokens="<out>/tokens/<model>_<sae>/{conversation}.parquet",
        decoder="<out>/decoder/<cell>/decoder.npz",
        descriptions=E.descriptions,
    output:
        table="<out>/linear_split/<cell>/{conversation}.csv",
    log:
        "<log>/linear_split/<cell>/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        top_features=config["drift"]["linear_split"],
        code=code_hash("drift.linear_split"),
    script:
        "../scripts/linear_split.py"


rule drift_tables:
    """Every table as CSV, and the arrays: for the analyses under drift.tables, or any run by target."""
    input:
        result="<out>/drift/<cell>/{analysis}/{conversation}/result.npz",
        descriptions=E.descriptions,
    output:
        arrays="<out>/drift/<cell>/{analysis}/{conversation}/arrays.npz",
        tables=[
            f"<out>/drift/<cell>/{{analysis}}/{{conversation}}/{name}.csv"
            for name in drift_options.TABLES
        ],
    log:
        "<log>/drift_tables/<cell>/{analysis}/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_hash("drift.conversation"),
    script:
        "../scripts/drift_tables.py"


rule plot_drift:
    """Figures and the token heat page: for the analyses under drift.figures, or any run by target."""
    input:
        result="<out>/drift/<cell>/{analysis}/{conversation}/result.npz",
        descriptions=E.descriptions,
    output:
        png=report(
            [
                f"<out>/drift/<cell>/{{analysis}}/{{conversation}}/{name}.png"
                for name in drift_options.FIGURES
            ],
            caption="../report/drift_figures.rst",
            category="3. Conversations",
            subcategory="{conversation}",
            labels={"analysis": "{analysis}", "kind": "figure"},
        ),
        svg=[
            f"<out>/drift/<cell>/{{analysis}}/{{conversation}}/{name}.svg"
            for name in drift_options.FIGURES
        ],
        heat=report(
            "<out>/drift/<cell>/{analysis}/{conversation}/token_heat.html",
            caption="../report/token_heat.rst",
            category="3. Conversations",
            subcategory="{conversation}",
            labels={"analysis": "{analysis}", "kind": "tokens"},
        ),
    log:
        "<log>/plot_drift/<cell>/{analysis}/{conversation}.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_hash("drift.pages.plot"),
    script:
        "../scripts/plot_drift.py"


rule user_prediction:
    """How far the user's message alone predicts the next turn: for the analyses under drift.user_prediction."""
    input:
        tokens=E.tokens + E.reference_tokens,
        user_means=E.user_means,
        matrix=analysis_matrix,
    output:
        table=report(
            "<out>/user_prediction/<cell>/{analysis}.csv",
            caption="../report/user_prediction.rst",
            category="2. All conversations",
            labels={"kind": "prediction from the user's message", "analysis": "{analysis}"},
        ),
    log:
        "<log>/user_prediction/<cell>/{analysis}.log",
    benchmark:
        "<bench>/user_prediction/<cell>/{analysis}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 4
    resources:
        mem_mb=scaled(E.user_prediction_mb),
        runtime=scaled(60),
    params:
        layers=config["extraction"]["residual_layers"],
        options=lambda wildcards: E.reference_options(wildcards.analysis),
        seed=config["drift"]["uncertainty"]["seed"],
        code=code_hash("drift.user_prediction"),
    script:
        "../scripts/user_prediction.py"


rule drift_summary:
    """All conversations and analyses side by side, ranked by drift."""
    input:
        summaries=E.drift,
        nulls=E.null_reports,
        descriptions=E.descriptions,
    output:
        table="<out>/summary/<cell>/drift_summary.parquet",
        csv="<out>/summary/<cell>/drift_summary.csv",
        detection="<out>/summary/<cell>/detection.csv",
        page=report(
            "<out>/summary/<cell>/drift_ranking.html",
            caption="../report/drift_summary.rst",
            category="2. All conversations",
            labels={"kind": "ranking"},
        ),
        png=report(
            "<out>/summary/<cell>/drift_ranking.png",
            caption="../report/drift_summary.rst",
            category="2. All conversations",
            labels={"kind": "figure"},
        ),
        svg="<out>/summary/<cell>/drift_ranking.svg",
    log:
        "<log>/drift_summary/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(15),
    params:
        figures=E.analyses_with("figures"),
        code=code_hash("drift.pages.summary"),
    script:
        "../scripts/drift_summary.py"


rule findings:
    """What the experiment has found: how good the axis is, what is flagged at which rate, and what not to conclude."""
    input:
        agreement="<out>/axis/<cell>/agreement.csv",
        projections="<out>/axis/<cell>/role_projections.csv",
        nulls=E.null_reports,
        summaries=E.drift,
        results=E.drift_results,
        descriptions=E.descriptions,
    output:
        page=report(
            "<out>/summary/<cell>/findings.html",
            caption="../report/findings.rst",
            category="1. Findings",
            labels={"kind": "findings"},
        ),
        text="<out>/summary/<cell>/findings.rst",
    log:
        "<log>/findings/<cell>.log",
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(15),
    params:
        figures=E.analyses_with("figures"),
        notes=E.notes,
        code=code_hash("drift.pages.findings"),
    script:
        "../scripts/findings.py"


rule drift_benchmark:
    """Conversations with labels: how often the test finds a persona and nothing else, beside simpler signals."""
    input:
        summaries=E.drift,
        results=E.drift_results,
        references=E.reference_tokens,
        nulls=[f"<out>/null/<cell>/{analysis}.npz" for analysis in E.analyses],
        matrices=[E.matrix_file(analysis) for analysis in E.analyses],
    output:
        table=report(
            "<out>/benchmark/<cell>/benchmark.csv",
            caption="../report/drift_benchmark.rst",
            category="Benchmark",
            labels={"kind": "table"},
        ),
        png=report(
            "<out>/benchmark/<cell>/benchmark.png",
            caption="../report/drift_benchmark.rst",
            category="Benchmark",
            labels={"kind": "figure"},
        ),
        svg="<out>/benchmark/<cell>/benchmark.svg",
    log:
        "<log>/drift_benchmark/<cell>.log",
    benchmark:
        "<bench>/drift_benchmark/<cell>.tsv"
    conda:
        "../../envs/analysis.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        analyses={name: E.null_options(name) for name in E.analyses},
        seed=config["drift"]["uncertainty"]["seed"],
        code=code_hash("drift.pages.benchmark"),
    script:
        "../scripts/drift_benchmark.py"
