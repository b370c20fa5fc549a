"""What goes into a drift analysis and what comes out of it.

`TokenActivations` are the assistant tokens of one conversation in one space: the SAE's features (sparse), or
the residual stream of one layer (dense). An assistant turn is an assistant message, counted from 0; a turn
with no token (empty content) exists and has no score.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from personascope.formats.tokens import TokenActivations

SPACES = ("sae", "residual")


@dataclass(frozen=True)
class DriftOptions:
    """The knobs of one named analysis, called as in the published notebook, and ours below them.

    space, layer: SAE features, or the residual stream at the output of block `layer`.
    alpha: false alarms a conversation that the drift onset may have; sequential_test: how turns are taken together.
    confound_adjust: take length and activation mass out of the scores by regression over the reference responses.
    """

    pooling: str = "mean"
    transform: str = "log1p"
    use_centering: bool = False
    center_turns_with_role_mean: bool = False
    use_l2_normalize: bool = False
    axis_method: str = "diff"
    other_group: str = "all_other_roles"
    roleplay_subset: tuple[str, ...] = ()
    assistant_role: str = "assistant"
    score_method: str = "projection"
    top_k_roles: int = 5
    confound_warn_abs_corr: float = 0.40
    confound_high_abs_corr: float = 0.70
    transition_pick: str = "largest_drop"
    manual_turn: int | None = None
    top_features: int = 20
    token_heat_percentiles: tuple[float, float] = (5.0, 95.0)
    space: str = "sae"
    layer: int | None = None
    alpha: float = 0.05
    sequential_test: str = "cusum"
    confound_adjust: bool = False


@dataclass(frozen=True)
class RoleSpace:
    """Role vectors in an analysis's space and the axis: all float32.

    space [R, D]: transformed (and centred) role vectors; directions [R, D]: their unit vectors;
    mean [D]: mean row of `space`; axis [D]: the unit axis that is scored on; assistant: row of the assistant;
    agreement: cos(diff, pc1); others: rows that the assistant is held against.
    """

    space: np.ndarray
    directions: np.ndarray
    mean: np.ndarray
    axis: np.ndarray
    assistant: int
    others: list[int]
    role_names: list[str]
    agreement: float


@dataclass(frozen=True)
class TurnScores:
    """Every assistant turn: vectors float32 [T, D], scores float64 [T] (NaN for a turn without tokens), mass metrics.

    raw: pooled before the transform; space: after it (and after centring where asked);
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
    """From turn `prev_turn` to `turn`: neighbours among the turns that have tokens.

    delta_x, contrib float32 [D]: contrib = delta_x * axis elementwise, its sum is delta_projection;
    away_mass = sum of max(-contrib, 0), toward_mass = sum of max(contrib, 0).
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


@dataclass(frozen=True)
class DriftResult:
    """One conversation under one analysis.

    selected: index into `transitions`, or None ("none": fewer than two turns with tokens);
    nearest: table assistant_turn, rank, role, cosine; confounds: table score_method, metric, corr (NaN: no value);
    token_scores float32 [n]: u_k; token_heat float32 [n]: u_k_norm in [0, 1], clipped per turn;
    calibration: one row a turn, or None where no reference was given; onset: first turn that rejects, or None;
    intervals: turn scores under the bootstrap, columns assistant_turn, score_low, score_high, or None.
    """

    options: DriftOptions
    activations: TokenActivations
    roles: RoleSpace
    turns: TurnScores
    transitions: list[Transition]
    selected: int | None
    nearest: pd.DataFrame
    confounds: pd.DataFrame
    max_abs_corr: float | None
    confound_verdict: str
    token_scores: np.ndarray
    token_heat: np.ndarray
    features: dict[str, pd.DataFrame] = field(default_factory=dict)
    calibration: pd.DataFrame | None = None
    onset: int | None = None
    intervals: pd.DataFrame | None = None

    @property
    def score(self) -> np.ndarray:
        """The score that the analysis selects, float64 [T]."""
        return self.turns.scores[self.options.score_method]

    @property
    def onset_since(self) -> int | None:
        """The turn from which on the evidence that rejects at `onset` was gathered, or None."""
        if self.calibration is None or self.onset is None:
            return None
        return int(self.calibration["evidence_since"].iloc[self.onset])
