"""A tiny experiment with the real model: what it leaves behind, what it costs, and what the store saves."""

import json
import shutil
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from personascope.directions.spaces import axis_spaces, figure_files
from tests.helpers.workspace import CELL, MODEL, RESPONSES, TINY, Workspace

pytestmark = pytest.mark.workflow

ROLES = TINY["roles"]["select"]
ROWS = 2


def read_rows(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in workspace.read(name).splitlines()]


def test_responses(finished: Workspace):
    for role in ROLES:
        rows = read_rows(finished, f"{RESPONSES}/{role}.jsonl")
        assert len(rows) == ROWS
        for row in rows:
            assert row["role"] == role and row["prompt_index"] == 0
            assert 0 < len(row["response_token_ids"]) <= 8
            assert row["conversation"][-1] == {"role": "assistant", "content": row["response"]}
            assert row["conversation"][-2]["content"] == row["question"]


def test_features_and_residuals_have_a_row_a_response(finished: Workspace):
    for role in ROLES:
        keys = [(row["prompt_index"], row["question_id"]) for row in read_rows(finished, f"{RESPONSES}/{role}.jsonl")]
        for suffix in ("", ".residuals"):
            table = pq.read_table(finished.path / f"results/main/features/{CELL}/{role}{suffix}.parquet")
            assert list(zip(*(table.column(i).to_pylist() for i in (0, 1)), strict=True)) == keys
            assert all(n > 0 for n in table.column("n_tokens").to_pylist())


def test_role_matrices(finished: Workspace):
    for space, shape in {
        "mean": (3, 4096),
        "max": (3, 4096),
        "mean_of_max": (3, 4096),
        "residual": (3, 3, 576),
    }.items():
        with np.load(
            finished.path / f"results/main/aggregated/{CELL}/{space}/per_role.npz", allow_pickle=False
        ) as data:
            assert data["features"].shape == shape
            assert np.isfinite(data["features"]).all() and data["features"].any()
            assert data["role_names"].tolist() == ROLES


def test_axis_tables_and_figures(finished: Workspace):
    folder = finished.path / f"results/main/axis/{CELL}"
    table = pd.read_csv(folder / "role_projections.csv")
    assert {"assistant", "default", "pirate"} <= set(table["role"])
    for name in figure_files(axis_spaces([7, 15, 22])):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / f"{name}.svg").read_text()
    with np.load(folder / "axis.npz", allow_pickle=False) as data:
        assert all(np.isfinite(data[name]).all() for name in data if data[name].dtype.kind == "f")


def test_a_target_may_ask_for_a_role_s_own_questions(finished: Workspace):
    own = json.loads(finished.read("resources/roles/pirate.json"))["questions"]
    rows = read_rows(finished, f"results/main/responses/role_specific/{MODEL}/pirate.jsonl")
    assert [row["question"] for row in rows] == own


def test_the_model_is_loaded_once(finished: Workspace):
    loads = (finished.path / "benchmarks/main/load_model").glob("*.tsv")
    assert [pd.read_csv(file, sep="\t").model[0] for file in loads] == [f"results/models/{MODEL}"]


def test_the_host_is_private_and_ends_with_the_run(finished_run: Any):
    assert (finished_run.socket_mode, finished_run.folder_mode) == ("srw-------", "drwx------")
    assert finished_run.left == []


def test_nothing_temporary_is_left(finished: Workspace):
    assert finished.leftovers() == []


def test_deleted_results_come_back_from_the_store(finished: Workspace):
    before = finished.files("results/main/responses/general") | finished.files("results/main/features")
    shutil.rmtree(finished.path / "results/main/responses")
    shutil.rmtree(finished.path / "results/main/features")
    shutil.rmtree(finished.path / "benchmarks/main/load_model")
    finished.snakemake("features", "--cores", "2", "--configfile", "overlay.yaml")
    assert finished.files("results/main/responses") | finished.files("results/main/features") == before
    assert not (finished.path / "benchmarks/main/load_model").exists()
    for role in ROLES:
        assert f"{ROWS} responses, {ROWS} of them in the store" in finished.read(
            f"logs/main/generate/general/{MODEL}/{role}.log"
        )
        assert "features are in the store" in finished.read(f"logs/main/extract/{CELL}/{role}.log")


def test_report_holds_figures_and_captions(finished: Workspace):
    finished.snakemake("--report", "report.html", "--configfile", "overlay.yaml")
    report = finished.read("report.html")
    assert "Assistant axis" in report
    assert "Is the axis good enough?" in report and "What not to conclude" in report  # its first page
    assert "role_projections_sae.png" in report
    assert "Cosine between role vectors" in report  # from a caption


def test_a_second_experiment_generates_only_what_is_new_and_overwrites_nothing(finished: Workspace):
    before = finished.files("results/main") | finished.files("logs/main") | finished.files("benchmarks/main")
    more = {"experiment": "second", "roles": {"select": [*ROLES, "ghost", "teacher"]}}
    finished.snakemake("features", "--cores", "2", "--configfile", finished.overlay(TINY, more, name="second.yaml"))
    after = finished.files("results/main") | finished.files("logs/main") | finished.files("benchmarks/main")
    assert after == before
    for role in ROLES:
        assert f"{ROWS} responses, {ROWS} of them in the store" in finished.read(
            f"logs/second/generate/general/{MODEL}/{role}.log"
        )
        assert "features are in the store" in finished.read(f"logs/second/extract/{CELL}/{role}.log")
    new = [finished.read(f"logs/second/generate/general/{MODEL}/{role}.log") for role in ("ghost", "teacher")]
    assert all(f"{ROWS} responses, 0 of them in the store" in log for log in new)
    assert len(list((finished.path / "benchmarks/second/load_model").glob("*.tsv"))) == 1
    for role in ROLES:
        second = finished.path / f"{RESPONSES}/{role}.jsonl".replace("/main/", "/second/")
        assert second.read_bytes() == before[f"{RESPONSES}/{role}.jsonl"]
