"""Judges in a real run: what they are worth, how they agree, and the role vectors that one of them leaves."""

import json

import numpy as np
import pandas as pd
import pytest

from personascope.formats.judgements import read_judgements
from tests.helpers.workspace import CELL, MODEL, OUT, TALKS, Workspace

pytestmark = pytest.mark.workflow

JUDGES = {
    "judges": {
        "embedded": {"opening": "The score is ", "labeled": 8},
        "other": {"opening": "I give it a ", "labeled": 8},
    },
    "aggregation": {"role_filter": {"judge": "embedded", "adherence": 0, "min_count": 1}},
}
FILTERED = f"{OUT}/filtered/{CELL}"
TARGETS = [f"{FILTERED}/role_filter.csv", f"{OUT}/judgements/agreement.csv"]
STRICT = {"aggregation": {"role_filter": {"judge": "embedded", "adherence": 3, "min_count": 2}}}


def test_judges_and_role_filter(finished: Workspace) -> None:
    files = ["--configfile", "overlay.yaml", finished.overlay(JUDGES, name="judges.yaml")]
    finished.snakemake(*TARGETS, "--cores", "2", *files)
    worth = json.loads(finished.read(f"{OUT}/judgements/embedded/worth.json"))
    assert set(worth["metrics"]) == {"trait", "coherence", "adherence"}
    assert worth["verdict"] == "not fit to judge"  # 135 million parameters, and eight responses
    assert (finished.path / f"{OUT}/judgements/embedded/worth.png").read_bytes().startswith(b"\x89PNG")
    agreement = pd.read_csv(finished.path / f"{OUT}/judgements/agreement.csv")
    assert set(agreement["comparison"]) == {"two judges", "second wording"}
    judged, described = read_judgements(
        finished.path / f"{OUT}/judgements/embedded/responses/general/{MODEL}/pirate.parquet"
    )
    assert len(judged) == 2 and set(judged["metric"]) == {"adherence"} and described["opening"] == "The score is "
    counts = pd.read_csv(finished.path / f"{FILTERED}/role_filter.csv", dtype={"role": str})
    assert counts["role"].tolist() == ["assistant", "default", "pirate"]
    assert counts["kept"].tolist() == [2, 2, 2]
    assert counts["verdict"].str.startswith("not fit to judge (adherence: ").all()
    # Nothing was left out, so the matrix and the axis are those of all responses.
    both = [
        np.load(finished.path / f"{OUT}/{kind}/{CELL}/mean/per_role.npz")["features"]
        for kind in ("aggregated", "filtered")
    ]
    np.testing.assert_allclose(*both, rtol=1e-6)
    assert pd.read_csv(finished.path / f"{FILTERED}/axis_cosine.csv")["cosine"].tolist() == pytest.approx([1.0] * 4)
    # Only the filter runs again where its threshold is another one; nothing passes it, and one line says where it went.
    strict = ["--configfile", "overlay.yaml", "judges.yaml", finished.overlay(STRICT, name="strict.yaml")]
    done = finished.snakemake(TARGETS[0], "--cores", "1", *strict, check=False)
    assert done.code != 0 and "rule judge" not in done.text
    assert "aggregation.role_filter: nothing is left: 4 responses of 2 roles" in done.text


def test_a_judge_reads_the_texts_of_a_causal_test(finished: Workspace) -> None:
    # The same turns in both orders: the score falls in one of them.
    talk = TALKS["at-sea"]["conversation"]
    (finished.path / "talks/ashore.json").write_text(json.dumps([*talk[2:], *talk[:2]]))
    names = ["at-sea", "ashore"]
    causal = {"analyses": ["default"], "conversations": names, "controls": 1, "seeds": 2, "max_tokens": 4}
    asked = {"judges": {"embedded": JUDGES["judges"]["embedded"]}, "drift": {"causal": causal | {"judge": "embedded"}}}
    overlay = finished.overlay(asked, name="causal.yaml")
    finished.snakemake("causality", "--cores", "2", "--configfile", "overlay.yaml", overlay)
    folder = f"{OUT}/judgements/embedded/causal/{CELL}/default"
    judged = {name: json.loads(finished.read(f"{folder}/{name}.json")) for name in names}
    assert all(one["judge"] == "embedded" and one["worth"].startswith("not fit to judge") for one in judged.values())
    name = next(name for name in names if judged[name]["metrics"]["adherence"])
    found = judged[name]["metrics"]["adherence"]
    texts = [
        json.loads(line) for line in finished.read(f"{OUT}/causal/{CELL}/default/{name}.samples.jsonl").splitlines()
    ]
    assert sum(found["counts"].values()) == len(texts) == 2 * (1 + len(found["arms"]))
    # The effect by hand, from the table of judgements.
    table, _ = read_judgements(finished.path / f"{folder}/{name}.parquet")
    scores = table.loc[table["metric"] == "adherence", "score"].to_numpy()
    arms = np.array([text["arm"] for text in texts])
    by_hand = scores[arms == "features"].mean() - scores[arms == "none"].mean()
    assert found["effect"]["mean"] == pytest.approx(by_hand, abs=1e-6)
