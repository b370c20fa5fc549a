"""The options of one named analysis, in the four groups that are needed at different times.

The axis and the scoring decide the reference; the test does not, and the display decides neither, so that another
level or another heat percentile reruns no bootstrap. Light: the workflow reads it too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from personascope.directions.options import AxisOptions, require_variants, tuples
from personascope.errors import UserError

ScoreMethod = Literal["projection", "cos_axis", "cos_assistant"]
SCORE_METHODS: tuple[str, ...] = get_args(ScoreMethod)
# What a run can write on request: a CSV a table, and its figures.
TABLES = (
    *("turn_meta", "role_trace", "role_cosines", "transition_df"),
    *("score_mass_diag", "score_mass_pivot", "selected_diag"),
    *("q2_top_away_contrib", "q2_top_toward_contrib", "q2_deactivated_assistant_features"),
    *("q2_activated_nonassistant_features", "q3_token_localization", "token_scores", "attribution"),
)
FIGURES = ("trajectory", "top_features", "token_heat", "nearest_roles", "confounds")


@dataclass(frozen=True)
class ScoringOptions:
    """How turns are scored on the axis. UserError names a value that does not exist."""

    score_method: ScoreMethod = "projection"
    """Projection on the axis, cosine to the axis, or cosine to the assistant's vector."""
    center_turns_with_role_mean: bool = False
    """Subtract the mean role from the turns, and its score from every token."""
    use_l2_normalize: bool = False
    """Score turns of length 1."""

    def __post_init__(self) -> None:
        require_variants(self)


@dataclass(frozen=True)
class TestOptions:
    """When scores count as drift. UserError names a value out of range."""

    __test__ = False  # no test of pytest's

    alpha: float = 0.05
    """False alarms among conversations in which nothing drifts."""
    baseline_turns: int = 0
    """Turns at the start of a conversation whose mean is taken off all others: what they are like is no drift."""
    confound_adjust: bool = False
    """Expect of a turn what the references score at its activation mass, too, not only at its place and length."""

    def __post_init__(self) -> None:
        require_variants(self)
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha: {self.alpha} is no share between 0 and 1")
        if self.baseline_turns < 0:
            raise UserError(f"baseline_turns: {self.baseline_turns} is too small, the least is 0")


@dataclass(frozen=True)
class DisplayOptions:
    """What is picked out, listed and drawn. UserError names a value out of range."""

    top_k_roles: int = 5
    """Nearest roles kept for a turn."""
    confound_min_turns: int = 10
    """Turns with a score from which there is a verdict: of fewer, correlations are high by chance."""
    confound_warn_abs_corr: float = 0.40
    """Correlation of score and activation mass from which the verdict is MODERATE."""
    confound_high_abs_corr: float = 0.70
    """From which it is HIGH."""
    transition_pick: Literal["largest_drop", "manual"] = "largest_drop"
    """The transition to explain: the largest drop of the score, or the one into `manual_turn`."""
    manual_turn: int | None = None
    """With `manual`, the turn that the transition leads to, from 1."""
    top_features: int = 20
    """Rows of a table of features."""
    token_heat_percentiles: tuple[float, float] = (5.0, 95.0)
    """Where the display heat of a turn's tokens is clipped."""
    attribution_share: float = 0.9
    """How much of the selected transition the table `attribution` lists feature by token, in absolute parts."""

    def __post_init__(self) -> None:
        require_variants(self)
        for name, least in (("top_features", 1), ("top_k_roles", 1), ("confound_min_turns", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name}: {getattr(self, name)} is too small, the least is {least}")
        low, high = self.token_heat_percentiles
        if not 0 <= low < high <= 100:
            raise UserError(f"token_heat_percentiles: {low:g} and {high:g} are not two ascending numbers in 0..100")
        if not 0 < self.attribution_share <= 1:
            raise UserError(f"attribution_share: {self.attribution_share:g} is no share over 0 and up to 1")
        if self.transition_pick == "manual" and self.manual_turn is None:
            raise UserError("transition_pick: manual needs manual_turn, the turn to explain")


@dataclass(frozen=True)
class DriftOptions:
    """One analysis: its axis, its scoring, its test, its display."""

    axis: AxisOptions = field(default_factory=AxisOptions)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    test: TestOptions = field(default_factory=TestOptions)
    display: DisplayOptions = field(default_factory=DisplayOptions)

    @classmethod
    def of(cls, **options: Any) -> "DriftOptions":
        """From one flat set of options, as a config block has it: `DriftOptions.of(pooling="max", top_features=5)`."""
        return cls().changed(**options)

    def changed(self, **options: Any) -> "DriftOptions":
        """The same analysis with some options changed, given flat; UserError for an unknown one."""
        if unknown := sorted(set(options) - {name for group in GROUPS.values() for name in names_of(group)}):
            raise UserError(f"{unknown[0]}: no option of an analysis")
        values = tuples(options)
        return DriftOptions(
            **{
                name: replace(getattr(self, name), **{key: values[key] for key in names_of(group) if key in values})
                for name, group in GROUPS.items()
            }
        )

    def flat(self) -> dict[str, Any]:
        """All options in one flat dict."""
        return asdict(self.axis) | asdict(self.scoring) | asdict(self.test) | asdict(self.display)


GROUPS: Mapping[str, Any] = {
    "axis": AxisOptions,
    "scoring": ScoringOptions,
    "test": TestOptions,
    "display": DisplayOptions,
}


def names_of(group: Any) -> list[str]:
    """The names of the options in a group."""
    return [option.name for option in fields(group)]
