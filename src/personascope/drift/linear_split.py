"""The residual stream's own projection, split over SAE features by the decoder: no transform, and an error node.

For a turn's mean residual h and mean activations m_f, both over the same tokens, and a unit residual axis a:
a . h = sum over f of m_f (W_dec,f . a) + b_dec . a + error. The error is what the SAE does not reconstruct of the
projection; with it the parts of a turn sum to a . h exactly. It is what an intervention on h can test.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from personascope.directions.block_sums import dense_column
from personascope.drift.turns import turn_bounds
from personascope.formats.decoder import DecoderProjection
from personascope.formats.descriptions import described, with_descriptions
from personascope.formats.features import residual_column
from personascope.formats.tables import iter_tables, write_csv
from personascope.formats.tokens import TokenActivations, read_activations, read_metadata

COLUMNS = (
    *("axis_method", "assistant_turn", "node", "feature_idx", "activation", "decoder_weight", "value", "share"),
    "projection",
)


def write_linear_split(
    tokens: str | Path, decoder: str | Path, output: str | Path, top_features: int, descriptions: Sequence[str] = ()
) -> None:
    """From a conversation's tokens to its table as CSV; where there is no split, a table of one cell says why.
    descriptions: the file of what features are called, where there is one."""
    projection, metadata = DecoderProjection.load(decoder), read_metadata(tokens)
    if reason := metadata.get("error") or projection.reason:
        write_csv(output, pd.DataFrame({"error": [reason]}))
        return
    activations = read_activations(tokens)
    along = residual_projections(tokens, projection)
    table = linear_split(activations, along, projection, top_features)
    write_csv(output, with_descriptions(table, described(descriptions)))


def residual_projections(tokens: str | Path, projection: DecoderProjection) -> np.ndarray:
    """a . h of every token, float64 [M, n]; UserError where the tokens file has not kept the layer."""
    column, axes = residual_column(projection.layer), projection.axes.astype(np.float64)
    parts = [axes @ dense_column(table.column(column)).T for table in iter_tables(tokens, [column])]
    return np.concatenate([np.zeros((len(axes), 0)), *parts], axis=1)


def linear_split(
    activations: TokenActivations, along: np.ndarray, projection: DecoderProjection, top_features: int
) -> pd.DataFrame:
    """COLUMNS, for each axis and turn that has tokens: a row for each of the `top_features` features that add most
    either way, and the nodes other_features, bias and error.

    along float64 [M, n]: a . h of the tokens. value: the node's part of `projection` (a . h of the turn), which the
    turn's values sum to; share = value / projection; activation: m_f; decoder_weight: W_dec,f . a.
    """
    bounds, rows = turn_bounds(activations).tolist(), []
    for turn in range(activations.n_turns):
        lo, hi = bounds[turn], bounds[turn + 1]
        if hi == lo:
            continue
        owned = slice(activations.offsets[lo], activations.offsets[hi])
        weights = activations.values[owned].astype(np.float64) / (hi - lo)
        pooled = np.bincount(activations.indices[owned], weights, activations.width)
        for row, method in enumerate(projection.methods):
            whole = float(along[row, lo:hi].mean())
            place = {"axis_method": method, "assistant_turn": turn, "projection": whole}
            nodes = _nodes(pooled, projection.weights[row].astype(np.float64), float(projection.bias[row]), whole)
            rows += [place | node for node in _listed(nodes, top_features)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["share"] = table["value"] / table["projection"].where(table["projection"] != 0)
    return table.astype({"feature_idx": "Int64", "assistant_turn": np.int64})


Nodes = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, float]]


def _nodes(pooled: np.ndarray, decoder: np.ndarray, bias: float, whole: float) -> Nodes:
    """Active features, the largest part first, with activation and decoder weight, and what else there is."""
    ids = np.flatnonzero(pooled)
    parts = pooled[ids] * decoder[ids]
    ids = ids[np.argsort(-np.abs(parts), kind="stable")]
    return ids, pooled[ids], decoder[ids], {"bias": bias, "error": whole - float(parts.sum()) - bias}


def _listed(nodes: Nodes, top_features: int) -> list[dict[str, object]]:
    ids, pooled, decoder, others = nodes
    parts = pooled * decoder
    listed: list[dict[str, object]] = [
        {"node": "feature", "feature_idx": feature, "activation": m, "decoder_weight": weight, "value": part}
        for feature, m, weight, part in zip(
            *(values[:top_features].tolist() for values in (ids, pooled, decoder, parts)), strict=True
        )
    ]
    others = {"other_features": float(parts[top_features:].sum()), **others}
    return listed + [{"node": node, "value": value} for node, value in others.items()]
