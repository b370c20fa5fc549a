"""Does setting a transition's features back restore the assistant? The statistics of the causal test, and its verdict.

Direct effect: the same tokens, teacher-forced, with the patch on the turn's tokens, read at later layers and in the
logits. Total effect: the turn generated anew with the patch and without, from the same seeds, and read without hooks.
One number a text carries the verdict, the *reading*: the mean, over the layers that are read, of its projection on the
residual axis in units of the spread of the conversation's assistant tokens there; larger is more like the assistant.

The verdict, by the total effect over paired seeds (95 % t-intervals):

1. SAE too lossy: of the change of the residual score at the patched layer, the SAE keeps a share under KEPT,
   1 - |error| / |change|. What features do then says little of what h did.
2. supported: the interval of the effect lies above 0, and so does that of the effect minus the mean of the matched
   controls, and no draw of the matched features or of a random direction has a mean effect as large.
3. not supported: the reading does not fall over the transition, so that there is nothing to restore; or one of both
   intervals does not lie above 0 and ends below what would matter, RELEVANT of the transition's fall; or both lie above
   0 and a draw of the controls does as much.
4. underpowered: an interval holds both 0 and an effect that would matter: more seeds are needed.

Seeds needed for an effect of d standard deviations of the paired differences: n = (z_{0.975} + z_{0.8})^2 / d^2 =
7.85 / d^2, rounded (power 0.8 at a two-sided 5 %): 8 for d = 1, 31 for 0.5, 126 for 0.25.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from personascope.drift.causal_arms import DRAWN
from personascope.drift.token_noise import LEAST_TOKENS, freedom, standard_error

SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
LOSSY, UNDERPOWERED = "SAE too lossy", "underpowered"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, LOSSY, UNDERPOWERED)
KEPT = 0.5  # of the residual change, that the SAE must keep
RELEVANT = 0.25  # of the fall, that an effect must restore to matter
LEVEL, POWER = 0.95, 0.8
READING = "reading"


@dataclass(frozen=True)
class Effect:
    """Mean of paired differences with its interval, d = mean / standard deviation, pairs, and seeds that d needs.

    low, high: None under two pairs; d: None without a spread; seeds_needed: None where the effect is exactly 0.
    """

    mean: float
    low: float | None
    high: float | None
    d: float | None
    n: int
    seeds_needed: int | None


def paired_effect(differences: np.ndarray) -> Effect | None:
    """The effect of differences [S], patched minus not, of the same seed; NaN where a text has no token. None of none.

    The interval is mean +- t_{n-1} sd / sqrt(n).
    """
    values = np.asarray(differences, np.float64)
    values = values[np.isfinite(values)]
    n = len(values)
    if not n:
        return None
    mean = float(values.mean())
    if n < 2:
        return Effect(mean, None, None, None, n, None)
    sd = float(values.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * sd / np.sqrt(n)
    d = mean / sd if sd > 0 else None
    return Effect(mean, mean - half, mean + half, d, n, seeds_needed(d, mean))


def seeds_needed(d: float | None, mean: float = 1.0) -> int | None:
    """Pairs for which an effect of d standard deviations is found with POWER; at least 2; None for no effect.

    d None: the differences have no spread, and two pairs show an effect that is not 0.
    """
    if d is None:
        return 2 if mean else None
    if d == 0:
        return None
    return max(2, round(float((ndtri((1 + LEVEL) / 2) + ndtri(POWER)) ** 2 / d**2)))


def token_effect(differences: np.ndarray) -> Effect | None:
    """The effect of differences [n] of the tokens of one text, whose neighbors are alike: blocks of tokens, as for the
    noise of a turn's score (`token_noise`). d and seeds_needed have no meaning here and are None."""
    values = np.asarray(differences, np.float64)
    n = len(values)
    if not n:
        return None
    mean = float(values.mean())
    if n < LEAST_TOKENS:
        return Effect(mean, None, None, None, n, None)
    half = float(stdtrit(float(freedom(np.array(n))), (1 + LEVEL) / 2)) * standard_error(values)
    return Effect(mean, mean - half, mean + half, None, n, None)


@dataclass(frozen=True)
class SAEShare:
    """How much of the residual score's change over the transition the SAE keeps: change = a . (h_t - h_t'), kept = the
    same of its reconstruction, share = 1 - |change - kept| / |change|. reason: why it is not known, else empty."""

    change: float | None = None
    kept: float | None = None
    share: float | None = None
    reason: str = ""


def sae_share(change: float, kept: float) -> SAEShare:
    """See `SAEShare`."""
    return SAEShare(change, kept, 1 - abs(change - kept) / abs(change) if change else None)


@dataclass(frozen=True)
class Totals:
    """Readings of the generated texts, NaN for one without tokens: plain float64 [S], without a patch; by arm float64
    [draws, S], of the same seeds."""

    plain: np.ndarray
    arms: Mapping[str, np.ndarray]

    def differences(self, arm: str) -> np.ndarray:
        """float64 [draws, S]; no row for an arm that there is not."""
        return self.arms[arm] - self.plain if arm in self.arms else np.zeros((0, len(self.plain)))

    def effects(self, arm: str) -> list[Effect | None]:
        """The effect of each draw."""
        return [paired_effect(row) for row in self.differences(arm)]

    @property
    def effect(self) -> Effect | None:
        """Of the features."""
        return next(iter(self.effects("features")), None)

    @property
    def contrast(self) -> Effect | None:
        """The effect of the features minus the mean of the matched draws, seed by seed."""
        own, matched = self.differences("features"), self.differences("matched")
        return paired_effect(own[0] - matched.mean(0)) if len(own) and len(matched) else None


@dataclass(frozen=True)
class Judged:
    """The verdict and the sentence that says why; seeds: `used`, `observed` (that the effect seen needs) and `relevant`
    (that the smallest effect that would matter needs, at the spread seen)."""

    verdict: str
    reason: str
    relevant: float
    seeds: dict[str, int | None]


def judge_totals(totals: Totals, fall: float, share: SAEShare) -> Judged:
    """The verdict by the module's rule; fall: the reading of the turn before minus that of the turn."""
    relevant = RELEVANT * max(fall, 0.0)
    effect, contrast = totals.effect, totals.contrast
    seeds = {"used": effect.n if effect else 0, "observed": effect.seeds_needed if effect else None}
    seeds["relevant"] = _seeds_for(relevant, effect)
    verdict, reason = _decide(effect, contrast, _draw_means(totals), fall, relevant, share)
    return Judged(verdict, reason, relevant, seeds)


def _draw_means(totals: Totals) -> dict[str, list[float]]:
    """Mean effect of each draw of the controls that are drawn."""
    return {arm: [effect.mean for effect in totals.effects(arm) if effect] for arm in DRAWN}


def _decide(
    effect: Effect | None,
    contrast: Effect | None,
    controls: Mapping[str, Sequence[float]],
    fall: float,
    relevant: float,
    share: SAEShare,
) -> tuple[str, str]:
    if share.share is not None and share.share < KEPT:
        why = f"the SAE keeps {share.share:.0%} of the change of the residual score, less than {KEPT:.0%}"
        return LOSSY, why
    if fall <= 0:
        return NOT_SUPPORTED, "the layers that are read do not fall over this transition: nothing to restore"
    if effect is None or contrast is None:
        return UNDERPOWERED, "too few texts with tokens, or no feature left for a matched control"
    states = {"the effect": _state(effect, relevant), "the effect beyond matched features": _state(contrast, relevant)}
    for what, state in states.items():
        if state == "absent":
            return NOT_SUPPORTED, f"{what} is below {RELEVANT:.0%} of the fall, and its interval does not exclude 0"
    for what, state in states.items():
        if state == "open":
            return UNDERPOWERED, f"the interval of {what} holds both 0 and {RELEVANT:.0%} of the fall"
    equals = {arm: sum(mean >= effect.mean for mean in means) for arm, means in controls.items()}
    if any(equals.values()):
        said = ", ".join(f"{count} of {len(controls[arm])} draws of {arm}" for arm, count in equals.items() if count)
        return NOT_SUPPORTED, f"controls do as much: {said}"
    return SUPPORTED, "the text moves back toward the assistant, more than with any draw of the controls"


def _state(effect: Effect, relevant: float) -> str:
    """seen: the interval lies above 0; absent: it does not, and ends below what would matter; open: neither."""
    if effect.low is None or effect.high is None:
        return "open"
    if effect.low > 0:
        return "seen"
    return "absent" if effect.high < relevant else "open"


def _seeds_for(relevant: float, effect: Effect | None) -> int | None:
    """Pairs that an effect of this size needs at the spread that was seen."""
    if effect is None or effect.low is None or effect.high is None or not relevant:
        return None
    sd = (effect.high - effect.low) / 2 * np.sqrt(effect.n) / float(stdtrit(effect.n - 1, (1 + LEVEL) / 2))
    return seeds_needed(relevant / sd if sd > 0 else None)
