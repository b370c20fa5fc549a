"""One conversation under one analysis: scores, confounds, the transition to explain, its features and its tokens.

`analyze` works on arrays alone: no files, no model.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from personascope.directions.axis import BLOCK_COLUMNS, EPS, TRANSFORMS, RoleSpace, role_space_of, unit
from personascope.drift.attribution import feature_tables, transitions_of
from personascope.drift.calibration import answer_table, judge
from personascope.drift.groups import with_groups
from personascope.drift.intervals import contribution_intervals, turn_intervals
from personascope.drift.null import Null
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.result import DriftResult, Transition, TurnScores
from personascope.drift.stability import with_stability
from personascope.drift.strength import strength_table
from personascope.drift.token_noise import token_noise
from personascope.drift.turns import token_scores, turn_bounds, turn_scores
from personascope.drift.weights import token_weights
from personascope.errors import UserError
from personascope.formats.tokens import TokenActivations, Tokens

GRAM = 4  # tokens in a run that counts as repeated
FLAT = 1e-12  # a standard deviation under which a correlation means nothing


def analyze(
    activations: TokenActivations,
    role_features: np.ndarray,
    role_names: Sequence[str],
    options: DriftOptions,
    *,
    reference: Reference | None = None,
    null: Null | None = None,
    domain: str | None = None,
    descriptions: Mapping[int, Mapping[str, str | None]] | None = None,
) -> DriftResult:
    """Analyze one conversation against a role matrix float32 [R, width] of the same features.

    reference: scores of the role responses; with it come percentiles, and intervals where it holds draws. null: the
    test as reference conversations calibrate it; domain: the one that the conversation is known to belong to.
    UserError names the option, or the array, that does not fit.
    """
    roles = role_space_of(np.asarray(role_features, np.float32), role_names, options.axis)
    given = {"reference": reference, "null": null, "domain": domain, "descriptions": descriptions}
    return analyze_in(roles, activations, options, **given)


def analyze_in(
    roles: RoleSpace,
    activations: TokenActivations,
    options: DriftOptions,
    *,
    reference: Reference | None = None,
    null: Null | None = None,
    domain: str | None = None,
    descriptions: Mapping[int, Mapping[str, str | None]] | None = None,
) -> DriftResult:
    """`analyze` in a role space made once for many conversations."""
    check_activations(activations, roles)
    turns = turn_scores(activations, roles, options)
    transitions = transitions_of(turns, roles, options)
    selected = select_transition(transitions, activations.n_turns, options)
    explained = None if selected is None else transitions[selected]
    features = with_groups(feature_tables(explained, roles, options, descriptions), activations)
    calibration, verdict = judge(turns, null, options, domain)
    calibration.insert(0, "assistant_turn", np.arange(activations.n_turns))
    intervals, strength, doubt = None, None, ""
    if reference is not None:
        calibration = calibration.join(answer_table(turns, reference, options))
        noise = token_noise(activations, turns, roles, options)
        intervals = turn_intervals(turns, roles, reference, options, noise)
        doubt = reference.doubt
        strength = strength_table(transitions, reference.pairs, options)
        features = _with_intervals(features, explained, reference)
        sizes = (reference.half_axes, options.display.top_features)
        features = with_stability(features, explained, roles.axis, *sizes)
    repeated = repetition(activations)
    table = confounds(turns, repeated, options)
    largest = max_abs_corr(table)
    scores = token_scores(activations, roles, options)
    weights, attribution = token_weights(activations, turns, transitions, selected, roles, options)
    return DriftResult(
        options=options,
        tokens=activations,
        roles=roles,
        turns=turns,
        transitions=transitions,
        selected=selected,
        nearest=nearest_roles(turns, roles, options.display.top_k_roles),
        role_cosines=role_cosines(turns, roles, options),
        repetition=repeated,
        confounds=table,
        max_abs_corr=largest,
        confound_verdict=confound_verdict(largest, int(table["n"].iloc[0]), options),
        token_scores=scores,
        token_heat=heat_by_turn(scores, turn_bounds(activations), options.display.token_heat_percentiles),
        weights=weights,
        attribution=attribution,
        calibration=calibration,
        verdict=verdict,
        features=features,
        intervals=intervals,
        strength=strength,
        doubt=doubt,
    )


def check_activations(activations: TokenActivations, roles: RoleSpace) -> None:
    """UserError where activations are not finite, or of another SAE than the role matrix."""
    if (width := roles.space.shape[1]) != activations.width:
        raise UserError(f"activations have {activations.width} features, the role matrix {width}; use the same SAE")
    if not np.isfinite(activations.values).all():
        raise UserError("activations are not finite (an overflow in a 16-bit dtype?); extract the conversation again")


def select_transition(transitions: Sequence[Transition], n_turns: int, options: DriftOptions) -> int | None:
    """Index of the transition to explain: the largest drop of the score, or the one into `manual_turn`.

    None where there is no transition. UserError where no transition leads to `manual_turn`.
    """
    if not transitions:
        return None
    if options.display.transition_pick == "largest_drop":
        return int(np.argmin([transition.delta_score for transition in transitions]))
    manual = options.display.manual_turn
    if manual is None or not 1 <= manual < n_turns:
        raise UserError(f"transition_pick: manual_turn {manual} is outside 1..{n_turns - 1}")
    by_turn = {transition.turn: i for i, transition in enumerate(transitions)}
    if manual not in by_turn:
        reason = "it is the first with tokens" if manual == transitions[0].prev_turn else "it has no tokens"
        raise UserError(f"transition_pick: no transition leads to manual_turn {manual}: {reason}")
    return by_turn[manual]


def nearest_roles(turns: TurnScores, roles: RoleSpace, k: int) -> pd.DataFrame:
    """The k roles nearest to each turn that has tokens: assistant_turn, rank (from 1), role, cosine."""
    filled = np.flatnonzero(turns.n_tokens)
    cosines = unit(turns.space[filled]) @ roles.directions.T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    ranks = np.arange(1, order.shape[1] + 1)
    return pd.DataFrame(
        {
            "assistant_turn": np.repeat(filled, order.shape[1]),
            "rank": np.tile(ranks, len(filled)),
            "role": [roles.role_names[row] for row in order.ravel()],
            "cosine": np.take_along_axis(cosines, order, 1).ravel(),
        }
    )


def role_cosines(turns: TurnScores, roles: RoleSpace, options: DriftOptions) -> np.ndarray:
    """Cosine of every turn with every role, both minus the mean role, float32 [T, R]; NaN for a turn without tokens.

    Uncentered cosines of role vectors are all near 1, since they share what any text activates.
    """
    transform = TRANSFORMS[options.axis.transform]
    taken_off = options.axis.use_centering
    dots = np.zeros((len(turns.raw), len(roles.space)))
    turn_squares, role_squares = np.zeros(len(turns.raw)), np.zeros(len(roles.space))
    for start in range(0, roles.space.shape[1], BLOCK_COLUMNS):
        block = slice(start, start + BLOCK_COLUMNS)
        center = roles.center[block]
        x = transform(turns.raw[:, block]) - center
        v = roles.space[:, block] - (0 if taken_off else center)
        dots += x @ v.T
        turn_squares += np.square(x).sum(1)
        role_squares += np.square(v).sum(1)
    cosines = dots / np.maximum(np.sqrt(np.outer(turn_squares, role_squares)), EPS)
    cosines[turns.n_tokens == 0] = np.nan
    return cosines.astype(np.float32)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two series; NaN under two values or where one of them does not vary."""
    if len(a) < 2 or np.std(a) < FLAT or np.std(b) < FLAT:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def confounds(turns: TurnScores, repeated: np.ndarray, options: DriftOptions) -> pd.DataFrame:
    """Correlation over turns of the selected score with each mass metric, length and repetition: score_method, metric,
    corr, n (turns that it is taken over)."""
    filled = turns.n_tokens > 0
    score = turns.scores[options.scoring.score_method][filled]
    metrics = turns.mass | {"n_tokens": turns.n_tokens.astype(np.float64), "repetition": repeated}
    correlations = [pearson(score, values[filled]) for values in metrics.values()]
    columns = {"metric": list(metrics), "corr": correlations, "n": len(score)}
    return pd.DataFrame({"score_method": options.scoring.score_method, **columns})


def repetition(tokens: Tokens) -> np.ndarray:
    """Share of each turn's runs of 4 tokens that occurred in it before, float64 [T]; 0 where it is shorter."""
    shares = np.zeros(tokens.n_turns)
    for turn, ids in enumerate(np.split(tokens.token_ids, turn_bounds(tokens)[1:-1])):
        if len(ids) >= GRAM:
            runs = np.lib.stride_tricks.sliding_window_view(ids, GRAM)
            shares[turn] = 1 - len(np.unique(runs, axis=0)) / len(runs)
    return shares


def max_abs_corr(table: pd.DataFrame) -> float | None:
    """The largest |corr| of a confounds table; None where it has no value."""
    values = np.abs(table["corr"].to_numpy(np.float64))
    values = values[np.isfinite(values)]
    return float(values.max()) if len(values) else None


def confound_verdict(largest: float | None, n: int, options: DriftOptions) -> str:
    """HIGH, MODERATE or LOW by the largest |corr| with a metric; N/A without a value, or over too few turns n."""
    if largest is None or n < options.display.confound_min_turns:
        return "N/A"
    if largest >= options.display.confound_high_abs_corr:
        return "HIGH"
    return "MODERATE" if largest >= options.display.confound_warn_abs_corr else "LOW"


def token_heat(scores: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """u_k_norm of one turn's u_k [n]: clipped to its own percentiles and scaled to [0, 1]; not centered on zero."""
    if not len(scores):
        return np.zeros(0, np.float32)
    low, high = np.percentile(scores.astype(np.float64), percentiles)
    high = high if high > low else low + 1e-6
    return np.clip((scores - low) / (high - low), 0, 1).astype(np.float32)


def heat_by_turn(scores: np.ndarray, bounds: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """token_heat of every turn, float32 [n]; turn t owns bounds[t]:bounds[t + 1]."""
    heat = [token_heat(part, percentiles) for part in np.split(scores, bounds[1:-1])]
    return np.concatenate(heat) if heat else np.zeros(0, np.float32)


def _with_intervals(
    features: dict[str, pd.DataFrame], explained: Transition | None, reference: Reference
) -> dict[str, pd.DataFrame]:
    """The feature tables with contrib_low and contrib_high, where the reference holds draws of the axis."""
    if not reference.axes.shape[1]:
        return features
    tables, nothing = {}, (np.zeros(0), np.zeros(0))
    for name, table in features.items():
        ids = table["feature_idx"].to_numpy(np.int64)
        low, high = (explained and contribution_intervals(explained, ids, reference)) or nothing
        tables[name] = table.assign(contrib_low=low, contrib_high=high)
    return tables
