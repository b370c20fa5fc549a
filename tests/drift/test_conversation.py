"""One conversation from files to files, by the analysis host: what is written, what is kept, and who fails alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.drift.calibration_report import calibration_report, role_quartiles
from personascope.drift.conversation import write_tables
from personascope.drift.null import save_null
from personascope.drift.options import DriftOptions
from personascope.drift.pages.plot import plot_run
from personascope.drift.reference import Reference
from personascope.errors import UserError
from personascope.formats.causal import SHORT
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import numbers
from personascope.formats.tokens import TokenBlock, token_writer, write_failure
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import drift_conversation, parse_request
from tests.helpers.drift_cases import null_of, random_roles, random_tokens, reference_of, to_activations
from tests.helpers.drift_identities import check_bundle, check_summary

WIDTH, LENGTHS = 50, [6, 0, 9, 4]
LAYERS = [3]


class Files:
    """A conversation of four turns (the second empty), a role matrix, residual vectors and a reference, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        features, names = random_roles(6, WIDTH)
        self.matrix, self.residual = str(folder / "mean.npz"), str(folder / "residual.npz")
        RoleMatrix(features, names, np.full(6, 9)).save(self.matrix)
        vectors = np.random.default_rng(3).normal(size=(6, 1, 8)).astype(np.float32)
        RoleMatrix(vectors, names, np.full(6, 9)).save(self.residual, layers=np.array(LAYERS))
        self.reference = str(folder / "reference.npz")
        reference_of(features, names, DriftOptions()).save(self.reference)
        self.null = str(folder / "null.npz")
        save_null(null_of(DriftOptions(), 20.0, n=20), self.null)
        self.tokens = str(folder / "tokens.parquet")
        self.write_tokens()

    def metadata(self, **more: Any) -> dict[str, Any]:
        turns = [{"message_index": 2 * t + 1, "special_tokens": t == 2} for t in range(len(LENGTHS))]
        messages = [{"role": role, "content": "Ahoy <b>"} for _ in LENGTHS for role in ("user", "assistant")]
        described = {"model": "m", "sae_release": None, "sae_id": "s", "sae_layer": 3, "d_sae": WIDTH}
        conversation = {"name": "talk", "messages": messages, "metadata": {"condition": "plain"}}
        rest = {"residual_layers": LAYERS, "turns": turns, "dropped_messages": 0, "error": None}
        return {**described, **rest, "conversation": conversation, **more}

    def write_tokens(self) -> None:
        dense, turn = random_tokens(LENGTHS, WIDTH)
        rows = to_activations(dense, turn, len(LENGTHS))
        residuals = np.random.default_rng(4).normal(size=(len(turn), 1, 8)).astype(np.float32)
        block = TokenBlock(
            rows.position, rows.turn, rows.token_ids, rows.tokens, rows.offsets, rows.indices, rows.values, residuals
        )
        with token_writer(self.tokens, self.metadata(), 8) as write:
            write(block)

    @property
    def outputs(self) -> dict[str, str]:
        names = {"conversation": "json", "summary": "json", "ui_bundle": "json", "result": "npz"}
        return {name: str(self.folder / f"{name}.{suffix}") for name, suffix in names.items()}

    def request(self, **options: Any) -> dict[str, Any]:
        """What the rule's script sends for an analysis with these options."""
        residual = options.get("space") == "residual"
        inputs = {"tokens": self.tokens, "matrix": self.residual if residual else self.matrix}
        inputs |= {} if residual else {"reference": self.reference, "null": self.null}
        wildcards = {"conversation": "talk", "analysis": "named"}
        params = {"options": options, "code": "c"}
        message = {"op": "drift_conversation", "inputs": inputs, "outputs": self.outputs, "params": params}
        return message | {"wildcards": wildcards, "sizes": {"mem_mb": 1000, "device": "cpu"}}

    def drift(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """summary.json and ui_bundle.json of a run."""
        drift_conversation.run(Loaded(), print, parse_request(drift_conversation.Request, self.request(**options)))
        summary, bundle = (json.loads(Path(self.outputs[name]).read_text()) for name in ("summary", "ui_bundle"))
        return summary, bundle

    def write_tables(self, *names: str) -> None:
        tables = [str(self.folder / f"{name}.csv") for name in names]
        write_tables(self.outputs["result"], tables, self.folder / "arrays.npz")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize(
    "options", [{}, {"axis_method": "pc1"}, {"space": "residual", "layer": 3, "transform": "raw"}], ids=str
)
def test_a_run_is_written(files: Files, options: dict[str, Any]) -> None:
    summary, bundle = files.drift(**options)
    check_bundle(bundle, True)
    check_summary(summary, bundle)
    assert (summary["status"], summary["error"], summary["run_name"]) == ("ok", None, "named/talk")
    row = summary["overview"]
    scores = [turn["score"] for turn in bundle["q1"]["turn_scores"]]
    assert scores[1] is None and (row["score_first"], row["score_last"]) == (scores[0], scores[3])
    assert row["largest_drop"] == min(step["delta_score"] for step in bundle["q1"]["transitions"])
    assert {"empty_turns", "special_tokens"} <= set(row["flags"]) and "truncated" not in row["flags"]
    assert (row["n_turns"], row["n_tokens"], row["metadata"]) == (4, 19, {"condition": "plain"})
    slope = np.polyfit([0, 2, 3], [scores[i] for i in (0, 2, 3)], 1)[0]
    assert row["slope"] == pytest.approx(slope)
    tested = options.get("space") != "residual"
    assert ("not_testable" in row["flags"]) != tested and (row["p_value"] is not None) == tested
    assert (row["fall"] is not None) == tested


def test_the_summary_repeats_the_causal_test(files: Files) -> None:
    tested = dict.fromkeys(SHORT) | {"verdict": "underpowered", "reason": "few seeds", "direct": [1, 2]}
    (files.folder / "causal.json").write_text(json.dumps(tested))
    request = files.request()
    request["inputs"]["causal"] = [str(files.folder / "causal.json")]
    drift_conversation.run(Loaded(), print, parse_request(drift_conversation.Request, request))
    said = json.loads(Path(files.outputs["summary"]).read_text())["causal"]
    assert set(said) == set(SHORT) and said["verdict"] == "underpowered"
    assert "causal" not in files.drift()[0]
    (files.folder / "causal.json").write_text("{}")
    with pytest.raises(UserError, match="no causal test"):
        drift_conversation.run(Loaded(), print, parse_request(drift_conversation.Request, request))


def test_an_unread_conversation_says_why_everywhere(files: Files) -> None:
    write_failure(files.tokens, files.metadata(turns=[]), "talk.json, message 1: no role")
    summary, bundle = files.drift()
    assert summary["status"] == "failed" and summary["error"] == bundle["error"] == "talk.json, message 1: no role"
    assert bundle["q3"]["token_localization"] == [] and summary["overview"]["score_first"] is None
    files.write_tables("turn_meta", "q3_token_localization")
    assert pd.read_csv(files.folder / "turn_meta.csv")["error"].tolist() == ["talk.json, message 1: no role"]
    figures = [str(files.folder / "trajectory.png"), str(files.folder / "trajectory.svg")]
    heat = str(files.folder / "heat.html")
    plot_run(files.outputs["result"], figures, heat)
    assert "message 1: no role" in Path(heat).read_text() and Path(figures[0]).read_bytes().startswith(b"\x89PNG")


def test_a_turn_that_one_conversation_lacks_fails_that_one(files: Files) -> None:
    summary, _ = files.drift(transition_pick="manual", manual_turn=9)
    assert summary["status"] == "failed" and "talk" in summary["error"] and "outside 1..3" in summary["error"]


def test_a_wrong_option_is_an_error_of_the_job(files: Files) -> None:
    with pytest.raises(UserError, match="'captain' is not among"):
        files.drift(anchor=["captain"])
    with pytest.raises(UserError, match=r"layer 7 is not among .* \[3\]"):
        files.drift(space="residual", layer=7)
    with pytest.raises(UserError, match="manual needs manual_turn"):
        DriftOptions.of(transition_pick="manual")


def test_tables_and_figures(files: Files) -> None:
    files.drift()
    files.write_tables("turn_meta", "transition_df", "q2_top_away_contrib", "q3_token_localization")
    turns = pd.read_csv(files.folder / "turn_meta.csv")
    assert turns["assistant_turn"].tolist() == [0, 2, 3] and not np.isnan(numbers(turns, "score")).any()
    assert len(pd.read_csv(files.folder / "transition_df.csv")) == 2
    figures = [str(files.folder / f"{name}.svg") for name in ("trajectory", "top_features", "confounds")]
    plot_run(files.outputs["result"], figures, str(files.folder / "heat.html"))
    assert all("<svg" in Path(path).read_text() for path in figures)
    assert "<b>Ahoy" not in (files.folder / "heat.html").read_text()


def test_what_was_loaded_is_kept_until_its_file_changes(files: Files) -> None:
    kept, options = drift_conversation.Kept(Loaded(), 1000), DriftOptions()
    first = kept.roles(files.matrix, options)
    assert kept.roles(files.matrix, options) is first
    assert kept.roles(files.matrix, options.changed(top_features=3)) is first, "what is only displayed loads nothing"
    assert kept.reference(files.reference) is kept.reference(files.reference)
    assert kept.null(files.null) is kept.null(files.null)
    features, names = random_roles(6, WIDTH, seed=9)
    RoleMatrix(features, names, np.full(6, 9)).save(files.matrix)
    assert not np.allclose(kept.roles(files.matrix, options).space, first.space)


def test_the_host_keeps_what_the_job_s_memory_allows(files: Files) -> None:
    loaded, options = Loaded(), DriftOptions()
    tight = drift_conversation.Kept(loaded, drift_conversation.WORKING_MB)
    first = tight.roles(files.matrix, options)
    reference = tight.reference(files.reference)
    assert tight.reference(files.reference) is reference, "the last one stays in any case"
    assert tight.roles(files.matrix, options) is not first


@pytest.mark.parametrize(
    ("part", "change", "mistake"),
    [
        ("params", {"top": 3}, "unknown field top"),
        ("sizes", {"mem_mb": "much"}, "mem_mb"),
        ("params", {"options": [1]}, "options"),
        ("inputs", {"tokens": None}, "tokens"),
        ("outputs", {"tokens": "again"}, "names tokens twice"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_its_field(
    files: Files, part: str, change: dict[str, Any], mistake: str
) -> None:
    message = files.request()
    with pytest.raises(UserError, match=mistake):
        parse_request(drift_conversation.Request, message | {part: message[part] | change})


def test_the_calibration_report_is_plain_json(files: Files) -> None:
    reference = Reference.load(files.reference)
    report = json.loads(json.dumps(calibration_report(reference, DriftOptions()), allow_nan=False))
    assert report["anchor_responses"] == 400 and report["axis"]["draws"] == 20
    assert report["axis"]["agreement"]["low"] == pytest.approx(0.8)
    quartiles = role_quartiles(reference, "projection").set_index("role")
    mine = reference.scores["projection"][reference.role == reference.role_names.index("assistant")]
    assert quartiles.loc["assistant", "median"] == pytest.approx(np.median(mine))
    assert all(low <= high for low, high in zip(quartiles["q25"], quartiles["q75"], strict=True))
