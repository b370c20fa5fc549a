"""The drift stages of the tiny experiment: what they leave behind, and that a bad conversation fails alone."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.helpers.drift_identities import check_bundle, check_summary
from tests.helpers.workspace import CELL, MODEL, TALKS, TINY, Workspace

pytestmark = pytest.mark.workflow

DRIFT = f"results/main/drift/{CELL}"
NAMES = [*TALKS, "plain-0"]
ANALYSES = ["default", "pc1", "cosine", "residual"]


def load(workspace: Workspace, name: str) -> Any:
    return json.loads(workspace.read(name))


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("name", ["greeting", "at-sea", "plain-0"])
def test_a_run_has_what_the_formats_ask_for(finished: Workspace, analysis: str, name: str):
    folder = f"{DRIFT}/{analysis}/{name}"
    summary, bundle = (load(finished, f"{folder}/{file}.json") for file in ("summary", "ui_bundle"))
    assert summary["status"] == "ok"
    changes = [transition["delta_score"] for transition in bundle["q1"]["transitions"]]
    only_rises = ["no_drop"] if changes and min(changes) >= 0 else []
    assert sorted(summary["overview"]["flags"]) == only_rises + ([] if analysis == "default" else ["not_testable"])
    assert bundle["run_meta"]["conversation_hash"]
    turns = [message for message in load(finished, f"{folder}/conversation.json") if message["role"] == "assistant"]
    assert len(bundle["q1"]["turn_scores"]) == len(bundle["q3"]["token_localization"]) == len(turns)
    assert len(bundle["q1"]["transitions"]) == len(turns) - 1
    check_bundle(bundle, analysis != "cosine")
    check_summary(summary, bundle)


def test_one_turn_has_scores_and_no_transition(finished: Workspace):
    summary = load(finished, f"{DRIFT}/default/greeting/summary.json")
    assert summary["selection"]["transition"] == "none" and summary["overview"]["largest_drop"] is None
    assert summary["overview"]["score_first"] is not None


def test_a_malformed_conversation_fails_alone_and_says_why(finished: Workspace):
    for analysis in ANALYSES:
        summary = load(finished, f"{DRIFT}/{analysis}/broken/summary.json")
        assert summary["status"] == "failed"
        assert "talks/broken.json" in summary["error"] and "message 1" in summary["error"]
    assert not (finished.path / f"{DRIFT}/pc1/broken/token_heat.html").exists()
    assert "1 of 4 conversations could not be analyzed: broken: talks/broken.json: " in finished.read("run.log")
    log = finished.read(f"logs/main/extract_conversation/{MODEL}_layer_15_width_4096/broken.log")
    assert "talks/broken.json" in log and "Traceback" not in log


def test_the_summary_has_a_row_a_conversation_and_analysis(finished: Workspace):
    folder = finished.path / f"results/main/summary/{CELL}"
    table = pd.read_parquet(folder / "drift_summary.parquet")
    assert sorted(zip(table["conversation"], table["analysis"], strict=True)) == sorted(
        (name, analysis) for name in NAMES for analysis in ANALYSES
    )
    failed = table[table["status"] == "failed"]
    assert set(failed["conversation"]) == {"broken"} and all("captain" in reason for reason in failed["reason"])
    detection = pd.read_csv(folder / "detection.csv")
    assert set(detection["condition"]) == {"plain"} and set(detection["conversations"]) == {1}
    assert "broken" in (folder / "drift_ranking.html").read_text()
    assert (folder / "drift_ranking.png").read_bytes().startswith(b"\x89PNG")


def test_conversations_are_held_against_references_where_these_are_enough(finished: Workspace):
    """Four references allow alpha 0.25, and no less."""
    tested = load(finished, f"{DRIFT}/default/at-sea/summary.json")["calibration"]
    assert tested["p_value"] in (0.2, 0.4, 0.6, 0.8, 1.0) and not tested["reason"]
    assert tested["references"] == {"n": 4, "domain": "", "turns_max": 2} and len(tested["turns"]) == 2
    for analysis in ("pc1", "cosine", "residual"):
        summary = load(finished, f"{DRIFT}/{analysis}/at-sea/summary.json")
        assert "4 reference conversations, alpha 0.05 needs at least 19" in summary["calibration"]["reason"]
        assert summary["calibration"]["p_value"] is None and "not_testable" in summary["overview"]["flags"]
    null = load(finished, f"results/main/null/{CELL}/default.json")
    assert null["references"] == {"": 4} and null["conversations"] == [f"neutral-{i}" for i in range(4)]
    table = pd.read_csv(finished.path / f"results/main/summary/{CELL}/drift_summary.csv")
    of_default = table.query("analysis == 'default' and status == 'ok'")
    p_values, q_values = (of_default[name].to_numpy() for name in ("p_value", "q_value"))
    assert np.isfinite(q_values).all() and (q_values >= p_values - 1e-12).all()


def test_tables_and_arrays_on_request(finished: Workspace):
    folder = finished.path / f"{DRIFT}/pc1/at-sea"
    turns = pd.read_csv(folder / "turn_meta.csv")
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        assert np.allclose(arrays["score"], turns["score"])
        assert arrays["turn_vectors_raw"].shape == (2, 4096)
    assert {"score_low", "score_high", "answer_p_value", "percentile_assistant", "z", "expected"} <= set(turns.columns)
    assert not (finished.path / f"{DRIFT}/default/at-sea/arrays.npz").exists()
    assert "captain" in finished.read(f"{DRIFT}/pc1/broken/turn_meta.csv")


def test_figures_by_target(finished: Workspace):
    page = f"{DRIFT}/default/at-sea/token_heat.html"
    finished.snakemake(page, f"{DRIFT}/default/broken/token_heat.html", "--cores", "2", "--configfile", "overlay.yaml")
    text = finished.read(page)
    assert "&lt;" in text and "<b>" not in text
    for figure in ("trajectory", "top_features", "token_heat", "nearest_roles", "confounds"):
        assert (finished.path / f"{DRIFT}/default/at-sea/{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert "captain" in finished.read(f"{DRIFT}/default/broken/token_heat.html")


def test_a_simulated_conversation_follows_its_script(finished: Workspace):
    made = load(finished, f"results/main/simulations/{MODEL}/plain-0.json")
    assert [m["content"] for m in made["conversation"] if m["role"] == "user"] == ["Who are you?", "What do you like?"]
    assert all(m["content"] for m in made["conversation"]) and made["condition"] == "plain"
    assert made["model"] == MODEL and made["sample"] == 0


def test_drift_loads_no_model(finished: Workspace):
    (finished.path / "logs/main/model_host.log").unlink()
    overlay = finished.overlay(
        TINY, {"drift": {"analyses": TINY["drift"]["analyses"] | {"extra": {"transform": "raw"}}}}
    )
    finished.snakemake("drift", "--cores", "2", "--configfile", overlay)
    assert not (finished.path / "logs/main/model_host.log").exists()
    assert finished.read("logs/main/analysis_host.log").count("serves the run") == 2  # the first run's, and this one's


def test_the_user_s_prediction_by_target(finished: Workspace):
    table = f"results/main/user_prediction/{CELL}/residual.csv"
    finished.snakemake(table, "--cores", "2", "--configfile", "overlay.yaml")
    rows = pd.read_csv(finished.path / table)
    assert rows["target"].tolist()[:2] == ["next score", "change"] and 15 in rows["layer"].tolist()
    assert all("conversations with such turns, 10 are needed" in reason for reason in rows["reason"])


def test_tokens_say_what_they_come_from(finished: Workspace):
    file = pq.ParquetFile(finished.path / f"results/main/tokens/{MODEL}_layer_15_width_4096/at-sea.parquet")
    metadata = json.loads(file.schema_arrow.metadata[b"personascope"])
    assert metadata["conversation"]["metadata"] == {"title": "At sea"}
    assert [turn["message_index"] for turn in metadata["turns"]] == [1, 3]
    assert {"weights", "sae_weights", "template", "layer_convention", "code"} <= metadata.keys()
