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
    together = correlations(ids, activations) > TOGETHER
    groups: list[list[int]] = []
    for place in range(len(ids)):
        home = next((group for group in groups if together[place, group].all()), None)
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
    entries = np.flatnonzero(column[activations.indices] >= 0)
    token = np.searchsorted(activations.offsets, entries, side="right") - 1
    values = np.zeros((len(activations), len(ids)))
    values[token, column[activations.indices[entries]]] = activations.values[entries]
    active = np.count_nonzero(values, axis=0)
    centered = values - values.mean(0) if len(values) else values
    norms = np.sqrt(np.square(centered).sum(0))
    usable = (active >= FEWEST_TOKENS) & (norms > 0)
    scaled = np.where(usable, centered / np.where(usable, norms, 1), 0)
    return scaled.T @ scaled
