"""Where a score and its change come from in the text: parts of features and tokens that add up exactly.

Aumann-Shapley along a straight line (Aumann and Shapley, "Values of Non-Atomic Games", 1974; "integrated gradients" in
Sundararajan, Taly and Yan, 2017). Pooling makes of a turn's tokens z_kf one value a feature, m_f = sum over tokens of
p_kf: for the mean p_kf = z_kf / n, for the maximum p_kf = z_kf at the first token that has it, and 0 at the others.
With phi the transform and a the axis, the plain projection is the sum over f of a_f phi(m_f), minus a . mu where turns
are centered on the mean role mu.

From m' to m, feature f moves it by a_f (phi(m_f) - phi(m'_f)) = a_f s_f (m_f - m'_f), where s_f is the mean of phi'
along the line. So the tokens of the new turn have the parts a_f s_f p_kf, those of the previous turn -a_f s_f p'_kf:
one additive table, whose sums over tokens are the features' contributions and over features the tokens' parts. The
score itself is the change from zero: w_k = sum over f of a_f phi(m_f) / m_f p_kf. Sums run in float64.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from personascope.directions.axis import EPS, RoleSpace
from personascope.drift.attribution import is_normalized, scored_direction
from personascope.drift.options import DriftOptions
from personascope.drift.result import TokenWeights, Transition, TurnScores
from personascope.drift.turns import turn_bounds
from personascope.formats.tokens import TokenActivations

ATTRIBUTION = ("feature_idx", "turn", "token_idx", "part", "n_entries")
LEFT_OUT = -1  # feature_idx and token_idx of a row that sums up what the table leaves out


@dataclass(frozen=True)
class TurnParts:
    """One turn's pooled activations by token and feature, m entries; what has no entry is 0.

    n: tokens of the turn; token int64 [m]: from 0 at its first; feature int32 [m]; value float64 [m]: p_kf.
    """

    n: int
    token: np.ndarray
    feature: np.ndarray
    value: np.ndarray

    @classmethod
    def none(cls) -> "TurnParts":
        """A turn without tokens."""
        return cls(0, np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0))

    def pooled(self, width: int) -> np.ndarray:
        """m_f, float64 [width]."""
        return np.bincount(self.feature, self.value, width)

    def by_token(self, weights: np.ndarray) -> np.ndarray:
        """Sum over features of weights_f p_kf, float64 [n]; weights [width]."""
        return np.bincount(self.token, weights[self.feature] * self.value, self.n)


def _mean_parts(n: int, token: np.ndarray, feature: np.ndarray, value: np.ndarray, pooled: np.ndarray) -> TurnParts:
    return TurnParts(n, token, feature, value / max(n, 1))


def _max_parts(n: int, token: np.ndarray, feature: np.ndarray, value: np.ndarray, pooled: np.ndarray) -> TurnParts:
    """The first token whose value is the pooled one; a pooled 0 is nobody's."""
    hits = np.flatnonzero((value == pooled[feature]) & (value != 0))
    _, first = np.unique(feature[hits], return_index=True)
    kept = hits[first]
    return TurnParts(n, token[kept], feature[kept], value[kept])


PARTS: dict[str, Callable[[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray], TurnParts]] = {
    "mean": _mean_parts,
    "max": _max_parts,
}


def turn_parts(activations: TokenActivations, turns: TurnScores, turn: int, options: DriftOptions) -> TurnParts:
    """The parts of one turn."""
    lo, hi = turn_bounds(activations)[turn : turn + 2].tolist()
    offsets = activations.offsets[lo : hi + 1]
    owned = slice(offsets[0], offsets[-1])
    token = np.repeat(np.arange(hi - lo), np.diff(offsets))
    value = activations.values[owned].astype(np.float64)
    return PARTS[options.axis.pooling](hi - lo, token, activations.indices[owned], value, turns.raw[turn])


def _log1p_slope(m: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Of sign(x) log1p(|x|). On one side of zero log1p(y) / y / (1 + the nearer), y = distance / (1 + the nearer): no
    digits are lost where both are nearly equal."""
    a, b = np.abs(m), np.abs(before)
    near = np.minimum(a, b)
    y = np.abs(a - b) / (1 + near)
    slopes = np.divide(np.log1p(y), y, out=np.ones_like(y), where=y > 0) / (1 + near)
    apart = np.flatnonzero(m * before < 0)
    slopes[apart] = (np.log1p(a[apart]) + np.log1p(b[apart])) / (a[apart] + b[apart])
    return slopes


# Transform -> s_f: the mean of its derivative on the line between two pooled values float64 [D]; where they are equal,
# the derivative there. That at zero is 1 for both transforms.
MEAN_SLOPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "raw": lambda m, before: np.ones_like(m),
    "log1p": _log1p_slope,
}


def token_weights(
    activations: TokenActivations,
    turns: TurnScores,
    transitions: Sequence[Transition],
    selected: int | None,
    roles: RoleSpace,
    options: DriftOptions,
) -> tuple[TokenWeights, pd.DataFrame]:
    """The weights of all tokens, and the feature x token table of the selected transition (see `attribution`)."""
    bounds, width = turn_bounds(activations), activations.width
    axis, scored = roles.axis.astype(np.float64), scored_direction(roles, options).astype(np.float64)
    weights, table = _no_weights(activations, turns, roles, options), empty_attribution()
    before, pooled_before = TurnParts.none(), np.zeros(width)
    for index, turn in enumerate(np.flatnonzero(turns.n_tokens).tolist()):
        here = slice(bounds[turn], bounds[turn + 1])
        now = turn_parts(activations, turns, turn, options)
        pooled = now.pooled(width)
        from_zero = _slopes(now, TurnParts.none(), pooled, np.zeros(width), options)
        weights.w[here] = now.by_token(axis * from_zero)
        if len(weights.w_assistant):
            weights.w_assistant[here] = now.by_token(scored * from_zero)
        if index:  # the transition into this turn, from the last one that had tokens
            step = transitions[index - 1]
            along = axis * _slopes(now, before, pooled, pooled_before, options)
            weights.as_turn[here] = now.by_token(along)
            weights.as_prev[bounds[step.prev_turn] : bounds[step.prev_turn + 1]] = -before.by_token(along)
            if index - 1 == selected and options.axis.space == "sae":
                table = attribution({step.prev_turn: before, turn: now}, along, options.display.attribution_share)
        before, pooled_before = now, pooled
    return weights, table


def _slopes(
    now: TurnParts, before: TurnParts, pooled: np.ndarray, pooled_before: np.ndarray, options: DriftOptions
) -> np.ndarray:
    """s_f float64 [D] between two turns' pooled values [D]; 0 for a feature that has no part in either."""
    active = np.zeros(len(pooled), bool)
    active[now.feature] = active[before.feature] = True
    ids, slopes = np.flatnonzero(active), np.zeros(len(pooled))
    slopes[ids] = MEAN_SLOPES[options.axis.transform](pooled[ids], pooled_before[ids])
    return slopes


def _no_weights(
    activations: TokenActivations, turns: TurnScores, roles: RoleSpace, options: DriftOptions
) -> TokenWeights:
    """What centering and the norm do, and 0 for every token."""
    n, n_turns, scoring = len(activations), activations.n_turns, options.scoring
    filled = turns.n_tokens > 0
    by_assistant = scoring.score_method == "cos_assistant"
    constant, mean = np.zeros((2, n_turns)), roles.mean.astype(np.float64)
    if scoring.center_turns_with_role_mean:
        targets = np.stack([roles.axis, scored_direction(roles, options)]).astype(np.float64)
        constant[:, filled] = -(targets @ mean)[:, None]
    scale = np.ones(n_turns)
    if is_normalized(options):
        scale[filled] = np.maximum(turns.mass["turn_l2_space"][filled], EPS)
    return TokenWeights(
        w=np.zeros(n),
        constant=constant[0],
        scale=scale,
        as_turn=np.zeros(n),
        as_prev=np.zeros(n),
        w_assistant=np.zeros(n if by_assistant else 0),
        assistant_constant=constant[1] if by_assistant else np.zeros(0),
    )


def empty_attribution() -> pd.DataFrame:
    """The feature x token table of no transition."""
    return pd.DataFrame({name: np.zeros(0, np.float64 if name == "part" else np.int64) for name in ATTRIBUTION})


def attribution(turns: dict[int, TurnParts], along: np.ndarray, share: float) -> pd.DataFrame:
    """The feature x token table of one transition, the largest parts first: ATTRIBUTION, a row an entry.

    turns: the parts of its two turns, {turn: parts}; along float64 [D]: a_f s_f. The largest entries are kept, as many
    as it takes to cover `share` of the sum of their absolute parts, and with them all that are as large as the last of
    these. What is left out is summed up in rows of its own, one for each turn and sign, whose feature_idx and token_idx
    are LEFT_OUT and whose n_entries says how many entries they sum: the table's sum, over all rows, is the change of
    the plain projection, and that of a turn's rows is the sum of its tokens' parts.
    """
    pieces = []
    for turn, parts in sorted(turns.items()):
        part = along[parts.feature] * parts.value * (-1 if turn == min(turns) else 1)
        pieces.append((parts.feature, np.full(len(part), turn), parts.token, part))
    columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    columns = [column[columns[3] != 0] for column in columns]
    part = columns[3]
    size = np.abs(part)
    order = np.argsort(-size, kind="stable")
    order = order[: _enough(size[order], share)]
    kept = np.zeros(len(part), bool)
    kept[order] = True
    rows = [column[order] for column in columns]
    table = pd.DataFrame(dict(zip(ATTRIBUTION, [*rows, np.ones(len(order), np.int64)], strict=True)))
    left_out = [
        (LEFT_OUT, turn, LEFT_OUT, part[chosen].sum(), np.count_nonzero(chosen))
        for turn, sign in itertools.product(sorted(turns), (-1, 1))
        if (chosen := ~kept & (columns[1] == turn) & (np.sign(part) == sign)).any()
    ]
    types = {name: np.float64 if name == "part" else np.int64 for name in ATTRIBUTION}
    frames = [table, pd.DataFrame(left_out, columns=list(ATTRIBUTION))] if left_out else [table]
    return pd.concat(frames, ignore_index=True).astype(types)


def _enough(largest: np.ndarray, share: float) -> int:
    """How many of the sizes, the largest first, cover `share` of their sum; with them all that equal the last."""
    if share >= 1 or not len(largest):
        return len(largest)
    covered = np.cumsum(largest)
    last = largest[min(np.searchsorted(covered, share * covered[-1]), len(largest) - 1)]
    return int(np.searchsorted(-largest, -last, side="right"))
