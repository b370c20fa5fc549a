# The experiment, as its configuration describes it: checked here, before anything runs (src/personascope/runs/experiment.py).
import re

from snakemake.logging import logger
from yaml import safe_load

from personascope.backends import BACKENDS
from personascope.directions import options as axis_options
from personascope.drift import options as drift_options
from personascope.drift.validation import TABLES as VALIDATION_TABLES
from personascope.errors import one_line_errors
from personascope.runs.code_hash import code_hash
from personascope.runs.experiment import read_experiment
from personascope.runs.integrity import note_times, set_aside_damaged
from personascope.runs.queue import cancel_leftovers
from personascope.runs.status import note_run
from personascope.runs.traits import LABELED
from personascope.runs.unanalyzed import last_lines

# A mistake ends Snakemake with one line: the place in this file, which a WorkflowError names, is not where it is.
with open(workflow.source_path("../schemas/config.schema.yaml")) as schema, one_line_errors():
    E = read_experiment(config, safe_load(schema))
    if workflow.is_main_process:
        E.check_description_file()
        E.check_pretrained()
config.update(E.config)


pathvars:
    **E.path_variables,


if workflow.is_main_process:
    # `workflow.dryrun` is not known yet when the rules are read.
    dry_run = workflow.output_settings.dryrun
    for line in [*E.warnings(), *set_aside_damaged(E.name, rename=not dry_run)]:
        logger.warning(line)


def scaled(amount):
    """A resource that grows with each attempt at a job; too slow to look up for jobs by the thousand."""
    return lambda wildcards, attempt: attempt * amount


def conversation_file(wildcards):
    return (E.conversations | E.references)[wildcards.conversation]


def axis_features(wildcards):
    """The features that the axis is made from; who wants no axis may leave out the roles that it points to."""
    with one_line_errors():
        return E.axis_features()


def response_files(wildcards):
    """What an analysis scores the roles' own responses by: their features, or their residual means."""
    with one_line_errors():
        return E.response_files(wildcards.analysis)


def analysis_matrix(wildcards):
    """The role matrix that an analysis is made from."""
    return E.matrix_file(wildcards.analysis)


def decomposed_file(wildcards):
    """The file of a direction that is decomposed."""
    return E.direction_file("decompose", E.decomposed[wildcards.direction])


wildcard_constraints:
    question_mode="general|role_specific",
    role=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    conversation=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    script=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    direction=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    analysis=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    judge=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    trait=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    table="|".join(VALIDATION_TABLES),
