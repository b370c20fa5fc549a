"""The linear split of the residual projection: against reconstructions written out, and where there is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.drift.linear_split import COLUMNS, write_linear_split
from personascope.errors import UserError
from personascope.formats.decoder import DecoderProjection
from personascope.formats.tokens import TokenBlock, token_writer, write_failure
from tests.helpers.drift_cases import random_tokens, to_activations

WIDTH, D_MODEL, LENGTHS = 70, 12, [5, 0, 8, 3]


class Case:
    """Tokens whose residuals are the decoder's output plus noise, on disk."""

    def __init__(self, folder: Path, layers: list[int] | None = None) -> None:
        rng = np.random.default_rng(0)
        layers = [2, 5] if layers is None else layers
        self.dense, self.turn = random_tokens(LENGTHS, WIDTH)
        self.decoder, self.b_dec = rng.normal(size=(WIDTH, D_MODEL)), rng.normal(size=D_MODEL)
        noise = rng.normal(0, 0.5, (len(self.dense), D_MODEL))
        self.h = (self.dense @ self.decoder + self.b_dec + noise).astype(np.float32)
        axes = rng.normal(size=(2, D_MODEL))
        self.axes = (axes / np.linalg.norm(axes, axis=1, keepdims=True)).astype(np.float32)
        weights, bias = (self.axes @ self.decoder.T).astype(np.float32), self.axes @ self.b_dec
        self.tokens, self.projection = folder / "talk.parquet", folder / "decoder.npz"
        DecoderProjection(["diff", "pc1"], 5, self.axes, weights, bias).save(self.projection)
        rows = to_activations(self.dense, self.turn, len(LENGTHS))
        turns = [{"message_index": 2 * t + 1} for t in range(len(LENGTHS))]
        residuals = np.stack([self.h if layer == 5 else 9 + self.h for layer in layers], axis=1)
        metadata: dict[str, Any] = {"d_sae": WIDTH, "residual_layers": layers, "turns": turns, "error": None}
        block = TokenBlock(
            rows.position, rows.turn, rows.token_ids, rows.tokens, rows.offsets, rows.indices, rows.values, residuals
        )
        with token_writer(self.tokens, metadata, D_MODEL) as write:
            write(block)
        self.output = folder / "talk.csv"

    def table(self, top_features: int) -> pd.DataFrame:
        write_linear_split(self.tokens, self.projection, self.output, top_features)
        return pd.read_csv(self.output)


@pytest.mark.parametrize("top_features", [0, 4, 1000])
def test_each_turn_sums_to_its_residual_projection(tmp_path: Path, top_features: int) -> None:
    case = Case(tmp_path)
    table: Any = case.table(top_features)
    assert list(table.columns) == [*COLUMNS, "description", "url"]
    keys = sorted({*zip(table["axis_method"], table["assistant_turn"], strict=True)})
    assert keys == [(method, turn) for method in ("diff", "pc1") for turn in (0, 2, 3)]
    for (method, turn), part in table.groupby(["axis_method", "assistant_turn"]):
        axis = case.axes[["diff", "pc1"].index(method)].astype(np.float64)
        here = case.turn == turn
        whole = (case.h[here].astype(np.float64) @ axis).mean()
        assert part["value"].sum() == pytest.approx(whole) and (part["projection"] - whole).abs().max() < 1e-6
        assert part["share"].sum() == pytest.approx(1)
        # The error is what the reconstruction, written out token by token, misses.
        missed = (case.h[here] - case.dense[here] @ case.decoder - case.b_dec) @ axis
        nodes = dict(zip(part["node"], part["value"], strict=True))
        assert nodes["error"] == pytest.approx(missed.mean(), abs=1e-4)
        assert nodes["bias"] == pytest.approx(case.b_dec @ axis)


def test_features_are_what_is_lost_without_them_the_largest_first(tmp_path: Path) -> None:
    case = Case(tmp_path)
    table: Any = case.table(6)
    for (method, turn), part in table.groupby(["axis_method", "assistant_turn"]):
        axis = case.axes[["diff", "pc1"].index(method)].astype(np.float64)
        tokens = case.dense[case.turn == turn].astype(np.float64)
        lost = []
        for feature in range(WIDTH):
            without = tokens.copy()
            without[:, feature] = 0
            lost.append(((tokens - without) @ case.decoder @ axis).mean())
        listed = part[part["node"] == "feature"]
        order = np.argsort(-np.abs(lost), kind="stable")[:6]
        assert listed["feature_idx"].tolist() == order.tolist()
        np.testing.assert_allclose(listed["value"], np.array(lost)[order], rtol=1e-5)
        np.testing.assert_allclose(listed["activation"] * listed["decoder_weight"], listed["value"])
        rest = part.loc[part["node"] == "other_features", "value"].item()
        assert rest == pytest.approx(sum(lost) - listed["value"].sum(), abs=1e-5)


def test_where_there_is_no_split_the_table_says_why(tmp_path: Path) -> None:
    case = Case(tmp_path)
    DecoderProjection.none("the SAE is read at mlp_out").save(case.projection)
    assert case.table(3)["error"].tolist() == ["the SAE is read at mlp_out"]
    case = Case(tmp_path)
    metadata: dict[str, Any] = {"d_sae": WIDTH, "turns": [], "conversation": {"name": "talk"}}
    write_failure(case.tokens, metadata, "talk.json, message 1: no role")
    assert case.table(3)["error"].tolist() == ["talk.json, message 1: no role"]


def test_tokens_without_the_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="layer_5"):
        Case(tmp_path, [2]).table(3)
