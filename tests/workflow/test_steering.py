"""A sweep and capping in a tiny experiment, run as users run them."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.helpers.workspace import CELL, TINY, Workspace

pytestmark = pytest.mark.workflow

FOLDER = f"results/main/steering/{CELL}"
SWEEP = {"direction": "axis", "layers": [7], "coefficients": [0.5], "questions": 2, "random": 1, "max_tokens": 6}
STEERED = {
    "extraction": {"residual_layers": [7, 15]},
    "steering": {"sweeps": {"push": SWEEP}, "capping": {"percentiles": [25], "layers": [15]}},
}
POINTS = ["none/0", "prompt/0", "direction/0.5", "random0/0.5", "orthogonal/0.5"]


def test_sweep_and_capping(workspace: Workspace):
    targets = [f"{FOLDER}/push/dose_response.png", f"{FOLDER}/capping/capping.png"]
    overlay = workspace.overlay(TINY, STEERED)
    workspace.snakemake(*targets, "--cores", "2", "--configfile", overlay)
    measures = {point: pd.read_csv(workspace.path / f"{FOLDER}/push/{point}.csv") for point in POINTS}
    infos = {point: json.loads(workspace.read(f"{FOLDER}/push/{point}.json")) for point in POINTS}
    assert measures["none/0"]["kl"].tolist() == [0, 0] and infos["none/0"]["tokens_changed"] == 0
    norms = json.loads(workspace.read(f"{FOLDER}/residual_norms.json"))["norms"]
    for point in POINTS[2:]:
        assert min(measures[point]["kl"].tolist()) > 0.001 and infos[point]["tokens_changed"] > 0
        assert infos[point]["added_norms"]["7"] == pytest.approx(0.5 * norms[7], rel=1e-4)
    assert {"projection_7", "projection_15"} <= set(measures["none/0"].columns)
    table = pd.read_csv(workspace.path / f"{FOLDER}/push/dose_response.csv")
    assert len(table["arm"].unique()) == 5 and np.isfinite(table.loc[table["measure"] == "kl", "mean"]).all()
    rows = [json.loads(line) for line in workspace.read(f"{FOLDER}/push/prompt/0.jsonl").splitlines()]
    assert [message["role"] for message in rows[0]["conversation"]] == ["system", "user", "assistant"]
    floors = json.loads(workspace.read(f"{FOLDER}/capping/floors.json"))
    assert floors["conversations"] == 4 and set(floors["floors"]["15"]) == {"25"}
    capped = pd.read_csv(workspace.path / f"{FOLDER}/capping/25/plain.csv")
    assert list(capped["turn"]) == [0, 1] and capped["capped_15"].between(0, 1).all()
    # Deleted outputs are made again from the store, to the byte, and nothing else is.
    before = workspace.read(f"{FOLDER}/push/direction/0.5.jsonl")
    (workspace.path / f"{FOLDER}/push/direction/0.5.jsonl").unlink()
    point = f"{FOLDER}/push/direction/0.5.jsonl"
    assert workspace.counts(point, "--configfile", overlay) == {"steer": 1}
    workspace.snakemake(point, "--cores", "1", "--configfile", overlay)
    assert workspace.read(point) == before
    assert "2 of them in the store" in workspace.read(f"logs/main/steer/{CELL}/push/direction/0.5.log")
