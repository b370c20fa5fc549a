"""Features that fire together, so that one that an SAE has split into several counts once.

Two features belong together where their activations correlate over the conversation's tokens (those where neither fires
included) by more than TOGETHER. Every two members of a group do: starting from the largest contribution, a feature
joins the first group that it correlates with throughout, or opens its own. Only the features of the tables are looked
at: a [tokens, features of the tables] matrix, never features by features of the whole SAE.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from personascope.formats.tokens import TokenActivations

TOGETHER = 0.8
FEWEST_TOKENS = 5  # that a feature is active on to be grouped: fewer coincide by chance
FLAT = 1e-9  # of a feature's squares: it does not vary
COLUMNS = ("group", "group_size", "group_contrib")


def with_groups(tables: Mapping[str, pd.DataFrame], activations: TokenActivations) -> dict[str, pd.DataFrame]:
    """The feature tables of a transition with COLUMNS, over the features of all of them together.

    group: the feature_idx of its largest contribution; group_size: its features; group_contrib: their contrib summed.
    """
    known = {
        int(feature): float(contrib)
        for table in tables.values()
        for feature, contrib in zip(table["feature_idx"], table["contrib"], strict=True)
    }
    ids = np.array(sorted(known, key=lambda feature: (-abs(known[feature]), feature)), np.int64)
    leader = dict(zip(ids.tolist(), groups_of(ids, activations).tolist(), strict=True))
    members: dict[int, list[int]] = {}
    for feature, first in leader.items():
        members.setdefault(first, []).append(feature)
    grouped = {}
    for name, table in tables.items():
        of_rows = [leader[int(feature)] for feature in table["feature_idx"]]
        grouped[name] = table.assign(
            group=np.array(of_rows, np.int64),
            group_size=np.array([len(members[first]) for first in of_rows], np.int64),
            group_contrib=np.array([sum(known[each] for each in members[first]) for first in of_rows], np.float64),
        )
    return grouped


def groups_of(ids: np.ndarray, activations: TokenActivations) -> np.ndarray:
    """The first feature of the group of each, int64 [n], for distinct features int64 [n] in order of preference."""
    together = (correlations(ids, activations) > TOGETHER).tolist()
    groups: list[list[int]] = []
    for place, fires in enumerate(together):
        home = next((group for group in groups if all(fires[member] for member in group)), None)
        if home is None:
            groups.append(home := [])
        home.append(place)
    first = np.zeros(len(ids), np.int64)
    for group in groups:
        first[group] = ids[group[0]]
    return first


def correlations(ids: np.ndarray, activations: TokenActivations) -> np.ndarray:
    """Pearson correlation over all tokens, float64 [n, n]; 0 for a feature active on under FEWEST_TOKENS of them."""
    column = np.full(activations.width, -1)
    column[ids] = np.arange(len(ids))
    places = column[activations.indices]
    entries = np.flatnonzero(places >= 0)
    places, values = places[entries], activations.values[entries].astype(np.float64)
    # Only the tokens on which one of them fires need a row: the others add nothing to the products.
    tokens, row = np.unique(np.searchsorted(activations.offsets, entries, side="right"), return_inverse=True)
    rows = np.zeros((len(tokens), len(ids)))
    rows[row, places] = values
    n, sums = max(len(activations), 1), np.bincount(places, values, len(ids))
    covariance = rows.T @ rows - np.outer(sums, sums) / n
    variance, squares = np.diagonal(covariance), np.bincount(places, values * values, len(ids))
    active = np.bincount(places, values != 0, len(ids))
    usable = (active >= FEWEST_TOKENS) & (variance > FLAT * squares)
    scale = np.where(usable, 1 / np.sqrt(np.where(usable, variance, 1)), 0)
    return covariance * np.outer(scale, scale)
