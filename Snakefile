from snakemake.utils import min_version

from personascope.errors import one_line_errors
from personascope.runs.config import check_files, check_folder

min_version("9.27")

with one_line_errors():
    check_folder(workflow.basedir, workflow.overwrite_configfiles)
    if workflow.is_main_process:
        check_files(workflow.overwrite_configfiles)


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/generation.smk"
include: "workflow/rules/extraction.smk"
include: "workflow/rules/directions.smk"
include: "workflow/rules/traits.smk"
include: "workflow/rules/steering.smk"
include: "workflow/rules/drift.smk"
include: "workflow/rules/descriptions.smk"
include: "workflow/rules/atlas.smk"
include: "workflow/rules/explorer.smk"
include: "workflow/rules/validation.smk"


report: "workflow/report/workflow.rst"


# For `personascope status`.
onstart:
    note_run(
        E.settings(workflow.pathvars.apply("<out>")),
        log,
        [job.rule.name for job in workflow.dag.jobs],
    )


onsuccess:
    note_times(E.name)
    for line in last_lines(E.settings(workflow.pathvars.apply("<out>"))):
        logger.warning(line)


onerror:
    for line in cancel_leftovers(log):
        logger.warning(line)
    note_times(E.name)
    for line in last_lines(E.settings(workflow.pathvars.apply("<out>"))):
        logger.warning(line)


# The model is fetched where Snakemake runs: the nodes of many clusters do not reach the network.
localrules:
    all,
    fetch_model,
    model,
    sae,
    responses,
    features,
    role_matrix,
    axis,
    tokens,
    reference,
    drift,
    splits,
    summary,
    benchmark,
    validation,
    vectors,
    judgements,
    traits,
    decompositions,
    traces,
    steering,
    causality,
    descriptions,
    atlas,
    runs,


# Named targets. Each asks for the files of its own stage and of the stages before it: a deleted features file
# would otherwise not be missed while the matrix that was made from it is newer.
rule all:
    default_target: True
    input:
        *(E.responses, E.features, E.role_matrix, E.axis),
        *(E.tokens, E.reference_tokens, E.calibrations),
        *(E.drift, E.drift_extras, E.user_prediction, E.linear_split),
        *(E.summary, E.benchmark),
        *(E.persona_vectors, E.judgements, E.role_filter, E.trait_results, E.decompositions),
        *(E.traces, E.steering, E.causal, E.described, E.atlas, E.published, E.explorer),


rule model:
    input:
        E.model_files,


rule sae:
    input:
        E.sae_files,


rule responses:
    input:
        E.responses,


rule features:
    input:
        *(E.responses, E.features),


rule role_matrix:
    input:
        *(E.responses, E.features, E.role_matrix),


rule axis:
    input:
        *(E.responses, E.features, E.role_matrix, E.axis),


rule tokens:
    input:
        E.tokens,


rule reference:
    input:
        *(E.responses, E.features, E.reference_tokens, E.calibrations),


rule drift:
    input:
        *(E.responses, E.features, E.role_matrix),
        *(E.tokens, E.reference_tokens, E.calibrations),
        *(E.drift, E.drift_extras, E.user_prediction, E.summary, E.benchmark),


rule splits:
    input:
        *(E.responses, E.features, E.role_matrix, E.tokens, E.linear_split),


rule summary:
    input:
        *(E.tokens, E.reference_tokens, E.calibrations, E.drift, E.summary),


rule benchmark:
    input:
        *(E.responses, E.features, E.role_matrix),
        *(E.tokens, E.reference_tokens, E.calibrations, E.drift, E.benchmark),


rule validation:
    input:
        "<out>/validation/validation.md",


rule vectors:
    input:
        *(E.responses, E.features, E.role_matrix, E.persona_vectors),


rule judgements:
    input:
        *(E.judgements, E.role_filter),


rule traits:
    input:
        *(E.judgements, E.trait_results),


rule decompositions:
    input:
        E.decompositions,


rule traces:
    input:
        E.traces,


rule steering:
    input:
        E.steering,


rule causality:
    input:
        E.causal,


rule descriptions:
    input:
        *(E.responses, E.features, E.described),


rule atlas:
    input:
        *(E.responses, E.features, E.role_matrix, E.atlas),


rule runs:
    input:
        *(E.tokens, E.reference_tokens, E.calibrations, E.drift, E.published),
