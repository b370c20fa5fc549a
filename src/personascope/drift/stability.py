"""How far the features behind a transition depend on the questions that the axis was made from.

The turns are given; what varies is the axis. A feature is in a table because its contribution is among the largest,
and part of that is luck of the axis: its weight is as large as it is because of these questions and these instruction
variants. So the tables are made again with the axis of one half of the questions (`directions.halves`), and what they
choose is estimated with the axis of the other half, which shares neither questions nor variants with it; each half
chooses once, over all splits. Noise takes length from a unit axis, the more the fewer responses it is made from, so
each estimate is divided by the cosine of its half's axis to the axis of all responses (the mean of exchangeable parts
has that cosine to the whole which brings a part to the length of the whole; see also `intervals.spread`).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from personascope.directions.axis import EPS
from personascope.drift.attribution import FEATURE_TABLES, smallest
from personascope.drift.result import Transition

COLUMNS = ("chosen_share", "contrib_held_out")


def with_stability(
    tables: Mapping[str, pd.DataFrame],
    transition: Transition | None,
    axis: np.ndarray,
    half_axes: np.ndarray,
    top_features: int,
) -> dict[str, pd.DataFrame]:
    """The feature tables of a transition with COLUMNS, where half_axes [D, 2 S] holds a split; else as they are.

    chosen_share: of the 2 S halves that choose the feature into this table; contrib_held_out: what its contribution is
    by the other half, the mean over the halves that chose it (NaN where none did). axis [D]: that of all responses.
    """
    if not half_axes.shape[1]:
        return dict(tables)
    if transition is None:
        return {name: table.assign(**dict.fromkeys(COLUMNS, np.zeros(0))) for name, table in tables.items()}
    cosines = axis.astype(np.float64) @ half_axes
    ids = np.flatnonzero(transition.delta_x)
    delta, halves = transition.delta_x[ids], np.ascontiguousarray(half_axes[ids].T)
    stable = {}
    for name, table in tables.items():
        shares, estimates = _stability(name, delta, halves, cosines, top_features)
        rows = np.searchsorted(ids, table["feature_idx"].to_numpy(np.int64))
        stable[name] = table.assign(chosen_share=shares[rows], contrib_held_out=estimates[rows])
    return stable


def _stability(
    name: str, delta: np.ndarray, halves: np.ndarray, cosines: np.ndarray, top_features: int
) -> tuple[np.ndarray, np.ndarray]:
    """chosen_share and contrib_held_out float64 [n] of the features that changed; halves [2 S, n], cosines [2 S]."""
    times, sums = np.zeros((2, len(delta)))
    for half, weights in enumerate(halves):
        other = half ^ 1
        candidates, keys = FEATURE_TABLES[name](delta, weights, delta * weights)
        chosen = smallest(keys, candidates, top_features)
        times[chosen] += 1
        sums[chosen] += delta[chosen] * halves[other, chosen] / max(abs(cosines[other]), EPS)
    return times / len(halves), np.where(times > 0, sums / np.maximum(times, 1), np.nan)
