"""The prediction of turns from the user's message: from files to the table, with known R², and what is left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.directions.axis import load_role_space
from personascope.drift.options import DriftOptions
from personascope.drift.user_prediction import COLUMNS, prediction, targets, write_user_prediction
from personascope.errors import UserError
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tokens import (
    TokenBlock,
    UserMeans,
    save_user_means,
    token_writer,
    write_failure,
)

D, LAYERS, TURNS = 12, [3, 7], 6
OPTIONS = DriftOptions.of(space="residual", layer=3, transform="raw")
NAMES = ["assistant", "default", "ghost", "pirate", "poet"]


class Study:
    """Conversations on disk whose turns have given scores: the residual stream at layer 3 along the axis."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng = folder, np.random.default_rng(0)
        self.matrix = str(folder / "per_role.npz")
        vectors = self.rng.normal(size=(len(NAMES), len(LAYERS), D)).astype(np.float32)
        RoleMatrix(vectors, NAMES, np.full(len(NAMES), 9)).save(self.matrix, layers=np.array(LAYERS))
        self.axis = load_role_space(self.matrix, OPTIONS.axis).axis
        self.weights = self.rng.normal(size=D) / np.sqrt(D)
        self.tokens: list[str] = []
        self.user_means: list[str] = []

    def messages(self) -> np.ndarray:
        """User means [T, layers, D]: what the messages say is read at layer 7, at layer 3 there is noise."""
        return self.rng.normal(size=(TURNS, len(LAYERS), D)).astype(np.float32)

    def said(self, messages: np.ndarray) -> np.ndarray:
        """What follows from the messages, standard normal [T]."""
        return messages[:, 1] @ self.weights / np.linalg.norm(self.weights)

    def add(self, scores: np.ndarray, messages: np.ndarray, script: str | None = None) -> None:
        """A conversation of a token a turn; a turn whose score is NaN has none."""
        name = f"talk{len(self.tokens)}"
        turn = np.flatnonzero(np.isfinite(scores)).astype(np.int32)
        across = self.rng.normal(size=(len(turn), D))
        across -= np.outer(across @ self.axis, self.axis)
        rows = (across + np.outer(scores[turn], self.axis)).astype(np.float32)
        residuals = np.stack([rows, self.rng.normal(size=rows.shape).astype(np.float32)], axis=1)
        nothing = np.zeros(len(turn) + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)
        block = TokenBlock(turn, turn, turn, ["a"] * len(turn), *nothing, residuals)
        described = {"name": name, "metadata": {"script": script} if script else {}}
        turns = [{"message_index": 2 * t + 1} for t in range(len(scores))]
        metadata = {"d_sae": 4, "residual_layers": LAYERS, "turns": turns, "error": None, "conversation": described}
        self.tokens.append(str(self.folder / f"{name}.parquet"))
        self.user_means.append(str(self.folder / f"{name}.user_means.npz"))
        with token_writer(self.tokens[-1], metadata, D) as write:
            write(block)
        counts = np.isfinite(messages[:, 0, 0]).astype(np.int32)
        save_user_means(self.user_means[-1], UserMeans(counts, messages), LAYERS)

    def table(self, layers: list[int] | None = None) -> Any:
        output = self.folder / "table.csv"
        files = (self.tokens, self.user_means, self.matrix)
        write_user_prediction(*files, OPTIONS, layers=LAYERS if layers is None else layers, seed=0, table=str(output))
        found = pd.read_csv(output)
        assert list(found.columns) == list(COLUMNS)
        return found


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def row(table: Any, layer: int, target: str) -> Any:
    return table[(table["layer"] == layer) & (table["target"] == target)].iloc[0]


def test_a_level_that_follows_the_message_changes_half_as_predictably(study: Study) -> None:
    """score = sqrt(.7) u + sqrt(.3) noise: R² 0.7; the change also has the turn before, of which nothing is known."""
    for _ in range(150):
        messages = study.messages()
        noise = study.rng.normal(size=TURNS)
        study.add(2 + np.sqrt(0.7) * study.said(messages) + np.sqrt(0.3) * noise, messages)
    table = study.table()
    assert table[["layer", "target"]].to_numpy().tolist() == [
        [layer, target] for layer in LAYERS for target in ("next score", "change")
    ]
    level, change = row(table, 7, "next score"), row(table, 7, "change")
    assert level["r2"] == pytest.approx(0.7, abs=0.06) and change["r2"] == pytest.approx(0.35, abs=0.07)
    assert level["r2_low"] < level["r2"] < level["r2_high"] and np.isnan(level["reason"])
    assert (level["n_conversations"], level["n_turns"], change["n_turns"]) == (150, 900, 750)
    for target in ("next score", "change"):
        noise = row(table, 3, target)
        assert -0.1 < noise["r2"] < 0.02 and noise["alpha"] > 10 * row(table, 7, target)["alpha"]


def test_a_message_that_moves_the_score_predicts_its_change(study: Study) -> None:
    """A random walk with steps sqrt(.6) u + sqrt(.4) noise: R² 0.6 of the change; of the level 0.6 of one step in T."""
    for _ in range(150):
        messages = study.messages()
        steps = np.sqrt(0.6) * study.said(messages) + np.sqrt(0.4) * study.rng.normal(size=TURNS)
        study.add(np.cumsum(steps), messages)
    table = study.table()
    assert row(table, 7, "change")["r2"] == pytest.approx(0.6, abs=0.07)
    assert row(table, 7, "next score")["r2"] == pytest.approx(0.6 / np.mean(np.arange(1, TURNS + 1)), abs=0.08)


@pytest.mark.parametrize(("named", "least", "most"), [(True, -1.0, 0.1), (False, 0.4, 1.0)])
def test_conversations_of_one_script_are_held_out_together(
    study: Study, named: bool, least: float, most: float
) -> None:
    """Scripts of a topic and a level each, told to the model several times: folds that part them know the answers."""
    scripts = [(f"script{i}", study.messages()[0], study.rng.normal()) for i in range(12)]
    for i in study.rng.permutation(96):
        script, topic, level = scripts[i % 12]
        scores = level + 0.1 * study.rng.normal(size=TURNS)
        study.add(scores, topic + 0.1 * study.messages(), script if named else None)
    assert least < row(study.table([7]), 7, "next score")["r2"] < most


def test_turns_without_a_score_or_a_message_are_left_out(study: Study) -> None:
    for _ in range(10):
        messages, scores = study.messages(), study.rng.normal(size=TURNS)
        messages[1], scores[3] = np.nan, np.nan
        study.add(scores, messages)
    study.tokens.append(str(study.folder / "bad.parquet"))
    study.user_means.append(str(study.folder / "bad.user_means.npz"))
    write_failure(study.tokens[-1], {"d_sae": 4, "turns": [], "conversation": {"name": "bad"}}, "no role")
    save_user_means(study.user_means[-1], UserMeans(np.zeros(0, np.int32), np.zeros((0, 0, 0))), [])
    table = study.table()
    assert (table["n_conversations"] == 10).all() and table["r2"].notna().all()
    assert table["n_turns"].tolist() == [40, 30] * 2, "without turns 1 and 3, and the first has no change"


def test_the_change_is_that_since_the_turn_with_tokens_before() -> None:
    found = targets(np.array([np.nan, 1, np.nan, 3, 2.5]))
    np.testing.assert_array_equal(found["next score"], [np.nan, 1, np.nan, 3, 2.5])
    np.testing.assert_array_equal(found["change"], [np.nan, np.nan, np.nan, 2, -0.5])
    assert np.isnan(targets(np.zeros(1))["change"]).all() and targets(np.zeros(0))["change"].shape == (0,)


def test_values_that_are_all_the_same_say_so() -> None:
    names = np.array([f"talk{i}" for i in range(20)])
    found = prediction(np.ones((20, 3), np.float32), np.full(20, 2.5), names, names, 0)
    assert found == {"n_conversations": 20, "n_turns": 20, "reason": "all turns have the same value"}


@pytest.mark.parametrize(
    ("conversations", "scripts", "layers", "reason"),
    [
        (0, 1, [3], "there are no conversations"),
        (9, 9, [3], "9 conversations with such turns, 10 are needed"),
        (12, 4, [3], "4 different scripts, 5 are needed"),
        (12, 12, [], "no layer is kept: extraction.residual_layers is empty"),
    ],
)
def test_what_cannot_be_predicted_says_why(
    study: Study, conversations: int, scripts: int, layers: list[int], reason: str
) -> None:
    for i in range(conversations):
        study.add(study.rng.normal(size=TURNS), study.messages(), f"script{i % scripts}")
    table = study.table(layers)
    assert table["reason"].tolist() == [reason] * 2 and table["r2"].isna().all()
    assert table["target"].tolist() == ["next score", "change"] and table["layer"].dropna().tolist() == layers * 2
    assert (table["n_conversations"] == conversations).all()


def test_conversations_of_one_turn_have_no_change(study: Study) -> None:
    for _ in range(12):
        scores = np.full(TURNS, np.nan)
        scores[2] = study.rng.normal()
        study.add(scores, study.messages())
    level, change = (row(study.table([7]), 7, target) for target in ("next score", "change"))
    assert np.isfinite(level["r2"]) and change["reason"] == "0 conversations with such turns, 10 are needed"


def test_a_layer_that_was_not_kept_is_named(study: Study) -> None:
    study.add(study.rng.normal(size=TURNS), study.messages())
    with pytest.raises(UserError, match="layer_9"):
        study.table([9])
