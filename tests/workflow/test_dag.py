"""Which jobs Snakemake would run: after a clone, for single targets, and after a change. Dry-runs only."""

import os
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from personascope.drift.validation import TABLES as VALIDATION_TABLES
from tests.helpers.workspace import CELL, REPO, RESPONSES, TINY, Workspace

pytestmark = pytest.mark.workflow

AXIS = {"assistant_axis": 1, "plot_axis": 1}
# The tiny experiment: 3 conversations and a simulated one, under 4 analyses.
CALIBRATED = {"drift_reference": 4, "drift_null": 4}
ANALYZED = {"drift_conversation": 16, "drift_tables": 4, "drift_summary": 1, "findings": 1, "explorer": 1}
NAMED = {"label_features": 1, "feature_contexts": 1, "describe": 1}
# The responses of three roles and the simulated conversation.
SAID_ANEW = {"generate": 3, "extract": 3, "simulate": 1, "extract_conversation": 1, "conversation_contexts": 1}
MAPPED = {"select_features": 1, "layout": 1, "atlas_bundle": 1, "plot_atlas": 1}


def after_extract(roles: int) -> dict[str, int]:
    """What the tiny experiment reruns when features of so many roles change."""
    aggregated = {"aggregate": 1, "aggregate_residuals": 1, "block_sums": roles}
    return {**aggregated, **AXIS, **CALIBRATED, **ANALYZED, **NAMED}


def whole(roles: int, conversations: int, analyses: int, references: int) -> dict[str, int]:
    """An experiment from nothing, every conversation drawn under one analysis."""
    counts = {"generate": roles, "extract": roles, "aggregate": 1, "aggregate_residuals": 1, **AXIS}
    counts |= {"extract_conversation": conversations + references, "block_sums": roles}
    counts |= {"drift_reference": analyses, "drift_null": analyses}
    return counts | {
        "drift_conversation": conversations * analyses,
        "plot_drift": conversations,
        "drift_summary": 1,
        "findings": 1,
        "explorer": 1,
        **{**NAMED, "logit_lens": 1, "conversation_contexts": 1},
        **MAPPED,
    }


def test_after_a_clone_every_job_is_planned(clone: Workspace):
    assert clone.counts() == {"fetch_model": 1, "simulate": 8, **whole(51, 12 + 80, 2, 120)}


def test_demo_plans_six_roles(clone: Workspace):
    once = ("persona_vectors", "export_vectors", "plot_persona_vectors", "judge_labeled", "judge_worth")
    once += ("generate_trait", "judge_traits", "extract_trait", "trait_vectors", "export_trait", "evaluate_trait")
    once += ("compare_traits", "decomposition_targets", "fit_decoder", "decompose", "monitor", "monitor_scale")
    once += ("plot_monitor", "residual_norms", "dose_response", "causal", "plot_causal")
    # Unsteered, with a prompt, and three arms of three coefficients.
    more = {**dict.fromkeys(once, 1), "steer": 2 + 3 * 3, **dict.fromkeys(MAPPED, 2), "publish_runs": 2}
    assert clone.counts("--configfile", "config/demo.yaml") == {"fetch_model": 1, **whole(6, 12, 2, 20), **more}


def test_production_config_plans_without_the_model_being_there(clone: Workspace):
    counts = clone.counts("--configfile", "config/gemma-3-27b-it.yaml")
    assert counts == {"simulate": 8, "simulate_references": 60, **whole(276, 92, 2, 120)}


def test_an_own_sae_is_trained_before_it_is_used(clone: Workspace):
    counts = clone.counts("features", "--configfile", "config/train_sae.yaml")
    assert counts == {"fetch_model": 1, "generate": 51, "train_sae": 1, "extract": 51}


def test_a_single_file_asks_for_its_own_job_alone(workspace: Workspace):
    assert workspace.counts(f"{RESPONSES}/pirate.jsonl") == {"generate": 1}


def test_a_role_without_a_file_is_refused(workspace: Workspace):
    outcome = workspace.snakemake("-n", f"{RESPONSES}/nobody.jsonl", check=False)
    assert outcome.code != 0
    assert "resources/roles/nobody.json" in outcome.text


def test_without_residual_layers_there_is_no_residual_stage(workspace: Workspace):
    overlay = workspace.overlay(TINY, {"extraction": {"residual_layers": []}, "drift": {"analyses": {}, "tables": []}})
    counts = workspace.counts("axis", "--configfile", overlay)
    assert counts == {"generate": 3, "extract": 3, "aggregate": 1, "block_sums": 3, **AXIS}


def test_the_linear_split_waits_for_the_axis_and_loads_no_model(workspace: Workspace):
    overlay = workspace.overlay(TINY, {"drift": {"linear_split": 5}})
    counts = workspace.counts("splits", "--configfile", overlay)
    axis = {"aggregate": 1, "aggregate_residuals": 1, "block_sums": 3, "assistant_axis": 1}
    tokens = {"generate": 3, "extract": 3, "simulate": 1, "extract_conversation": 4}
    named = {"logit_lens": 1, "label_features": 1, "describe": 1}
    # One of the four conversations is malformed: it has no turns to split.
    assert counts == {**tokens, **axis, **named, "project_decoder": 1, "linear_split": 3}


def test_the_user_s_prediction_waits_for_conversations_and_references_and_for_no_reference_of_roles(
    workspace: Workspace,
):
    overlay = workspace.overlay(TINY, {"drift": {"user_prediction": ["pc1"]}})
    counts = workspace.counts(f"results/main/user_prediction/{CELL}/pc1.csv", "--configfile", overlay)
    tokens = {"generate": 3, "extract": 3, "aggregate": 1, "simulate": 1, "extract_conversation": 8}
    assert counts == {**tokens, "user_prediction": 1}
    assert workspace.counts("drift", "--configfile", overlay)["user_prediction"] == 1


def test_the_validation_needs_neither_model_nor_conversations(clone: Workspace):
    counts = clone.counts("validation", "--configfile", "config/validation.yaml")
    assert counts == {"validate": len(VALIDATION_TABLES), "validation_page": 1}


def test_rulegraph_and_lint(clone: Workspace):
    graph = clone.snakemake("--rulegraph").text
    assert all(rule in graph for rule in ("digraph", "fetch_model", "generate", "extract", "aggregate", "plot_axis"))
    assert "good condition" in clone.snakemake("--lint").text


def test_a_finished_experiment_has_nothing_left_to_do(finished: Workspace):
    noted = finished.files("logs/main/outputs")
    assert finished.counts("--configfile", "overlay.yaml") == {}
    assert finished.files("logs/main/outputs") == noted != {}, "no result had to be read again to see that it is intact"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            {"generation": {"temperature": 0.9}},
            {**SAID_ANEW, **after_extract(3)},
            id="temperature",
        ),
        pytest.param(
            {"extraction": {"residual_layers": [3, 15]}},
            {"extract": 3, "extract_conversation": 8, "conversation_contexts": 1, **after_extract(3)},
            id="residual-layers",
        ),
        pytest.param(
            {"axis": {"transform": "raw"}},
            {**AXIS, **CALIBRATED, **ANALYZED},
            id="axis-option",
        ),
        pytest.param(
            {"axis": {"roleplay_subset": ["pirate"], "other_group": "roleplay_subset"}},
            {**AXIS, **CALIBRATED, **ANALYZED},
            id="inherited-axis-option",
        ),
        pytest.param(
            {
                "store": "elsewhere",
                "model": {"device": "cpu"},
                "generation": {"backend_options": {"batch_size": 2}},
                "extraction": {"batch_tokens": 99, "chunk_tokens": 9},
            },
            {},
            id="sizes-and-places",
        ),
        pytest.param({"roles": {"select": ["assistant", "default", "ghost", "pirate"]}}, None, id="one-role-more"),
    ],
)
def test_a_changed_option_reruns_what_depends_on_it(
    finished: Workspace, change: dict[str, Any], expected: dict[str, int] | None
):
    expected = {"generate": 1, "extract": 1, **after_extract(1)} if expected is None else expected
    assert finished.counts("--configfile", finished.overlay(TINY, change)) == expected


def test_a_changed_role_reruns_that_role(finished: Workspace):
    finished.edit("resources/roles/pirate.json", "lantern", "lamp")
    assert finished.counts("--configfile", "overlay.yaml") == {"generate": 1, "extract": 1, **after_extract(1)}


def test_deleted_features_of_a_role_rerun_that_role(finished: Workspace):
    (finished.path / f"results/main/features/{CELL}/pirate.parquet").unlink()
    targets = ("features", "role_matrix", "axis", "--configfile", "overlay.yaml")
    aggregated = {"aggregate": 1, "aggregate_residuals": 1, "block_sums": 1}
    assert finished.counts(*targets) == {"extract": 1, **aggregated, **AXIS}
    plan = finished.snakemake("-n", *targets).text
    assert re.search(rf"output: .*results/main/features/{CELL}/pirate\.parquet", plan)


def test_touch_accepts_outputs_as_they_are(finished: Workspace):
    """Snakemake's way to keep results after an edit that does not matter."""
    finished.edit("resources/roles/pirate.json", "lantern", "lamp")
    finished.snakemake("--cores", "1", "--touch", "--configfile", "overlay.yaml")
    assert finished.counts("--configfile", "overlay.yaml") == {}


@pytest.mark.parametrize(
    ("module", "edit", "expected"),
    [
        pytest.param("directions/aggregate.py", lambda text: f"# A comment.\n{text}", {}, id="comment"),
        pytest.param(
            "directions/figures/layers.py", lambda text: f"{text}\nCHANGED = True\n", {"plot_axis": 1}, id="figures"
        ),
        pytest.param("backends/sampling.py", lambda text: f"{text}\nCHANGED = True\n", None, id="sampling"),
    ],
)
def test_changed_code_reruns_its_stage_and_a_comment_nothing(
    finished: Workspace, module: str, edit: Callable[[str], str], expected: dict[str, int] | None
):
    source = finished.path / "src"
    shutil.copytree(REPO / "src/personascope", source / "personascope", ignore=shutil.ignore_patterns("__pycache__"))
    file = source / "personascope" / module
    file.write_text(edit(file.read_text()))
    counts = finished.counts("--configfile", "overlay.yaml", env={"PYTHONPATH": os.fspath(source)})
    assert counts == ({**SAID_ANEW, **after_extract(3)} if expected is None else expected)


def test_a_conversation_dropped_into_the_folder_adds_its_own_jobs(finished: Workspace):
    (finished.path / "talks/new-one.json").write_text(finished.read("talks/at-sea.json"))
    expected = {
        "extract_conversation": 1,
        "drift_conversation": 4,
        "drift_tables": 1,
        "drift_summary": 1,
        "findings": 1,
    }
    assert finished.counts("drift", "--configfile", "overlay.yaml") == expected


def test_a_changed_conversation_reruns_its_own_jobs(finished: Workspace):
    finished.edit("talks/at-sea.json", "matey", "mate")
    expected = {
        "extract_conversation": 1,
        "drift_conversation": 4,
        "drift_tables": 1,
        "drift_summary": 1,
        "findings": 1,
    }
    assert finished.counts("drift", "--configfile", "overlay.yaml") == expected


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        pytest.param("cosine", {"score_method": "cos_assistant"}, {}, id="changed"),
        pytest.param("cosine", {"score_method": "cos_axis", "alpha": 0.1}, {"drift_reference": 0}, id="tested"),
        pytest.param("pc1", {"axis_method": "pc1", "transform": "raw"}, {"drift_tables": 4}, id="with-tables"),
        pytest.param("extra", {"transform": "raw"}, {}, id="new"),
        pytest.param("cosine", {"score_method": "cos_axis", "top_k_roles": 3}, None, id="displayed"),
    ],
)
def test_an_analysis_reruns_alone(
    finished: Workspace, name: str, options: dict[str, Any], expected: dict[str, int] | None
):
    """Its reference with the bootstrap and its null too, unless only the test changes, or what is listed and drawn."""
    overlay = finished.overlay(TINY, {"drift": {"analyses": TINY["drift"]["analyses"] | {name: options}}})
    counts = finished.counts("drift", "--configfile", overlay)
    made = {} if expected is None else {"drift_reference": 1, "drift_null": 1, **expected}
    written = {"drift_conversation": 4, "drift_summary": 1, "findings": 1}
    assert counts == written | {rule: n for rule, n in made.items() if n}


def test_an_overlay_takes_an_analysis_back(finished: Workspace):
    left = {"pc1": TINY["drift"]["analyses"]["pc1"], **dict.fromkeys(("cosine", "residual", "default", "notebook"))}
    overlay = finished.overlay(TINY, {"drift": {"analyses": left}})
    assert finished.counts("drift", "--configfile", overlay) == {"drift_summary": 1, "findings": 1}


def test_another_experiment_has_everything_to_do_and_shares_the_model(finished: Workspace):
    counts = finished.counts("axis", "--configfile", finished.overlay(TINY, {"experiment": "second"}))
    aggregated = {"aggregate": 1, "aggregate_residuals": 1, "block_sums": 3}
    assert counts == {"generate": 3, "extract": 3, **aggregated, **AXIS}


def test_a_dry_run_renames_nothing(finished: Workspace):
    damaged = f"{RESPONSES}/pirate.jsonl"
    os.truncate(finished.path / damaged, 10)
    before = finished.files("results/main")
    text = finished.snakemake("responses", "--dry-run", "--configfile", "overlay.yaml").text
    assert f"{damaged}: not what its job wrote" in text and "would be set aside by a run" in text
    assert finished.files("results/main") == before
