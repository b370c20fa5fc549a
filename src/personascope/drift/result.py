"""What comes out of a drift analysis, and the one file that holds it: tables, figures and pages only read it.

An assistant turn is an assistant message, counted from 0; a turn with no token (empty content) exists and has no score.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.axis import ScoredAxis
from personascope.drift.options import DriftOptions
from personascope.formats.tokens import Tokens

NO_RATE = {"rate": None, "low": None, "high": None, "n": 0}


@dataclass(frozen=True)
class TurnScores:
    """Every assistant turn: vectors float32 [T, D], scores float64 [T] (NaN for a turn without tokens), mass metrics.

    raw: pooled before the transform; space: after it (and after centering where asked);
    scores: {"projection", "cos_axis", "cos_assistant"} -> [T]; mass: {"turn_l2_raw", "turn_nonzero_raw",
    "turn_l2_space", "turn_nonzero_space"} -> [T]; n_tokens int64 [T].
    """

    raw: np.ndarray
    space: np.ndarray
    scores: dict[str, np.ndarray]
    mass: dict[str, np.ndarray]
    n_tokens: np.ndarray


@dataclass(frozen=True)
class Transition:
    """From turn `prev_turn` to `turn`: neighbors among the turns that have tokens.

    delta_x, contrib float32 [D]: contrib = delta_x * axis elementwise, its sum is the change of the plain projection;
    away_mass = sum of max(-contrib, 0), toward_mass = sum of max(contrib, 0).
    score_contrib float32 [D], where the selected score is divided by the turn's norm (else None, and contrib explains
    it): (x_turn / |x_turn| - x_prev / |x_prev|) * the direction of the score elementwise, its sum is delta_score.
    """

    prev_turn: int
    turn: int
    delta_score: float
    delta_projection: float
    away_mass: float
    toward_mass: float
    top_away_share: float
    effect_strength: str
    delta_x: np.ndarray
    contrib: np.ndarray
    score_contrib: np.ndarray | None = None


@dataclass(frozen=True)
class TokenWeights:
    """What each of a conversation's n tokens adds, float64 (see `weights`); 0 where there is nothing to add to.

    w [n]: to its turn's plain projection, which is the sum of them + constant [T] (what centering takes off); scale
    [T]: what the selected score divides both by (|x_t|, or 1). as_turn [n]: a token's part in the transition into its
    turn; as_prev [n]: in the one out of it; of both turns together they sum to the change of the plain projection.
    w_assistant [n], assistant_constant [T]: the same as w and constant along the assistant's vector, so that
    cos_assistant is their sum / scale; [0] under other scores.
    """

    w: np.ndarray
    constant: np.ndarray
    scale: np.ndarray
    as_turn: np.ndarray
    as_prev: np.ndarray
    w_assistant: np.ndarray
    assistant_constant: np.ndarray


@dataclass(frozen=True)
class Verdict:
    """What the test says of a conversation.

    p_value: rank of its statistic among the references; alarm_turn: the first turn at which the running statistic
    passes the level of alpha, None: none; onset: the turn at which the evidence behind the alarm began, or, without an
    alarm, None; onset_set: first and last turn that the bootstrap over references keeps; references: n, domain ("" for
    all) and turns_max, up to which turns are tested; false_alarm_rate: rate, low, high, n on held-out references of
    that domain; reason: why there is no test, else "".
    """

    alpha: float
    p_value: float | None = None
    alarm_turn: int | None = None
    onset: int | None = None
    onset_set: tuple[int, int] | None = None
    references: dict[str, Any] = field(default_factory=lambda: {"n": 0, "domain": "", "turns_max": 0})
    false_alarm_rate: dict[str, Any] = field(default_factory=lambda: dict(NO_RATE))
    reason: str = ""


@dataclass(frozen=True)
class DriftResult:
    """One conversation under one analysis.

    selected: index into `transitions`, or None ("none": fewer than two turns with tokens);
    nearest: table assistant_turn, rank, role, cosine; role_cosines float32 [T, R]: cosines of turn and role vectors,
    both minus the mean role, NaN for a turn without tokens; repetition float64 [T]: share of repeated runs of tokens;
    confounds: table score_method, metric, corr (NaN: no value), n;
    token_scores float32 [n]: u_k; token_heat float32 [n]: u_k_norm in [0, 1], clipped per turn;
    weights: what each token adds; attribution: the feature x token table of the selected transition, empty without one
    and in residual space; calibration: one row a turn, see `calibration.answer_table` and `calibration.judge`; verdict:
    of the test; intervals: turn scores under the bootstrap, columns assistant_turn, score_low, score_high, or None;
    strength: how unusual each transition's top_away_share is (`strength_table`), or None; doubt: why the axis is not to
    be interpreted, as far as the reference says, else empty.
    """

    options: DriftOptions
    tokens: Tokens
    roles: ScoredAxis
    turns: TurnScores
    transitions: list[Transition]
    selected: int | None
    nearest: pd.DataFrame
    role_cosines: np.ndarray
    repetition: np.ndarray
    confounds: pd.DataFrame
    max_abs_corr: float | None
    confound_verdict: str
    token_scores: np.ndarray
    token_heat: np.ndarray
    weights: TokenWeights
    attribution: pd.DataFrame
    calibration: pd.DataFrame
    verdict: Verdict
    features: dict[str, pd.DataFrame] = field(default_factory=dict)
    intervals: pd.DataFrame | None = None
    strength: pd.DataFrame | None = None
    doubt: str = ""

    @property
    def score(self) -> np.ndarray:
        """The score that the analysis selects, float64 [T]."""
        return self.turns.scores[self.options.scoring.score_method]

    @property
    def no_drop(self) -> bool:
        """Whether there are transitions and none of them is a drop of the score."""
        return bool(self.transitions) and min(step.delta_score for step in self.transitions) >= 0
