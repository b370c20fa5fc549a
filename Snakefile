from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/fetch_model.smk"
include: "workflow/rules/train_sae.smk"
include: "workflow/rules/generate.smk"
include: "workflow/rules/extract.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/assistant_axis.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/extract_conversation.smk"
include: "workflow/rules/block_sums.smk"
include: "workflow/rules/drift_reference.smk"
include: "workflow/rules/drift_conversation.smk"
include: "workflow/rules/drift_summary.smk"


report: "workflow/report/workflow.rst"


# For `personascope status`.
onstart:
    note_run(RUN, log)


onsuccess:
    note_times()


onerror:
    note_times()


# Named targets. Each asks for the files of its own stage and of the stages before it: a deleted features file
# would otherwise not be missed while the matrix that was made from it is newer.
rule all:
    default_target: True
    input:
        RESPONSES,
        FEATURES,
        ROLE_MATRIX,
        AXIS,
        TOKENS,
        DRIFT,
        DRIFT_EXTRAS,
        DRIFT_SUMMARY,


rule model:
    input:
        MODEL_FILES,


rule sae:
    input:
        SAE_FILES,


rule responses:
    input:
        RESPONSES,


rule features:
    input:
        RESPONSES,
        FEATURES,


rule role_matrix:
    input:
        RESPONSES,
        FEATURES,
        ROLE_MATRIX,


rule axis:
    input:
        RESPONSES,
        FEATURES,
        ROLE_MATRIX,
        AXIS,


rule conversations:
    input:
        TOKENS,


rule drift:
    input:
        RESPONSES,
        FEATURES,
        ROLE_MATRIX,
        TOKENS,
        REFERENCES,
        DRIFT,
        DRIFT_EXTRAS,
        DRIFT_SUMMARY,
