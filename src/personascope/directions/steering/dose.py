"""Dose and response: a sweep's points as a table, arms compared at equal distance, and whether more does less."""

from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.steering.sweep import Sweep, interval

DRAWS = 1000


def dose_table(sweep: Sweep) -> pd.DataFrame:
    """A row a point and measure: its mean, its change from the unsteered model on the same questions and samples, each
    with an interval over questions, and opposite: the share of responses that changed against what was meant."""
    rows = []
    for point in sweep.points:
        for measure in sweep.measures:
            values = sweep.column(point, measure)
            mean, low, high = interval(sweep.by_question(values))
            change, change_low, change_high = interval(sweep.by_question(sweep.change(point, measure)))
            row = {"arm": point[0], "coefficient": float(point[1]), "measure": measure}
            row |= {"mean": mean, "low": low, "high": high}
            row |= {"change": change, "change_low": change_low, "change_high": change_high}
            opposite = _opposite(sweep, point, measure) if measure in sweep.effects else np.nan
            counts = {"n": int(np.isfinite(values).sum()), "questions": sweep.values[point]["question_id"].nunique()}
            rows.append(row | {"opposite": opposite} | counts)
    return pd.DataFrame(rows)


def _opposite(sweep: Sweep, point: tuple[str, str], measure: str) -> float:
    change = sweep.change(point, measure) * sweep.meant(point)
    change = change[np.isfinite(change)]
    return float((change < 0).mean()) if len(change) and sweep.meant(point) else np.nan


# ---- arms at equal KL ------------------------------------------------------------------------------------------------


def equal_kl(sweep: Sweep, measure: str, seed: int, draws: int = DRAWS) -> pd.DataFrame:
    """What the arms do at the same KL divergence from the unsteered model, a row for each point of the direction and
    for the prompt.

    effect: the mean change of the measure, positive where it is meant. Between the points of an arm on one side of 0
    (and the unsteered model) it is interpolated linearly in KL; beyond its largest KL there is none. random: the mean
    over the random arms that reach this KL, random_arms of them; excess: the direction's effect less theirs, with a
    95 % interval that resamples questions, widened by sqrt(Q / (Q - 1)).
    """
    arms = list(dict.fromkeys(arm for arm, _ in sweep.points))
    randoms = [arm for arm in arms if arm.startswith("random")]
    n_questions = len(sweep.by_question(np.zeros(len(next(iter(sweep.values.values()))))))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_questions, np.full(n_questions, 1 / n_questions), draws).astype(np.float64)
    weights = np.concatenate([np.ones((1, n_questions)), weights])  # the first is the sample itself
    means = {point: _weighted(sweep, point, measure, weights) for point in sweep.points}
    rows = []
    for point in sweep.points:
        if point[0] not in ("direction", "prompt"):
            continue
        side, level = sweep.meant(point), means[point][0]
        at = {arm: _interpolated(sweep, means, arm, side, level) for arm in ("direction", "orthogonal", *randoms)}
        reached = np.isfinite(np.stack([at[arm] for arm in randoms] or [np.full(len(level), np.nan)]))
        with np.errstate(invalid="ignore"):
            random = np.sum([np.nan_to_num(at[arm]) for arm in randoms], axis=0) / reached.sum(0)
        excess = at["direction"] - random
        low, high = _bounds(excess, n_questions)
        row = {"at": point[0], "coefficient": float(point[1]), "kl": level[0], "measure": measure}
        row |= {arm: at[arm][0] for arm in ("direction", "orthogonal")} | {"random": random[0]}
        row |= {"random_arms": int(reached[:, 0].sum())}
        row |= {"prompt": means[point][1][0] * side if point[0] == "prompt" else np.nan}
        rows.append(row | {"excess": excess[0], "excess_low": low, "excess_high": high})
    return pd.DataFrame(rows)


def _weighted(sweep: Sweep, point: tuple[str, str], measure: str, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(KL, change) of a point under each weighting [draws, questions] of the questions."""
    parts = []
    for values in (sweep.column(point, "kl"), sweep.change(point, measure)):
        by_question = sweep.by_question(values)
        there = np.isfinite(by_question)
        with np.errstate(invalid="ignore"):
            parts.append(weights @ np.where(there, by_question, 0) / (weights @ there))
    return parts[0], parts[1]


def _interpolated(sweep: Sweep, means: dict[Any, Any], arm: str, side: float, level: np.ndarray) -> np.ndarray:
    """The effect of an arm at a KL, for each draw; NaN beyond its points."""
    points = [p for p in sweep.points if p[0] == arm and np.sign(float(p[1])) == side]
    if not points:
        return np.full(len(level), np.nan)
    kl = np.stack([np.zeros(len(level)), *(means[point][0] for point in points)])
    effect = np.stack([np.zeros(len(level)), *(side * means[point][1] for point in points)])
    order = np.argsort(kl, axis=0)
    kl, effect = np.take_along_axis(kl, order, 0), np.take_along_axis(effect, order, 0)
    return np.array([np.interp(level[i], kl[:, i], effect[:, i], right=np.nan) for i in range(len(level))])


def _bounds(draws: np.ndarray, n_questions: int) -> tuple[float, float]:
    """95 % around the first, from the others; NaN where the sample or too many draws have no value."""
    rest = draws[1:][np.isfinite(draws[1:])]
    if n_questions < 2 or not np.isfinite(draws[0]) or len(rest) < 0.9 * len(draws):
        return np.nan, np.nan
    wide = np.sqrt(n_questions / (n_questions - 1))
    low, high = np.quantile(rest, [0.025, 0.975]) - draws[0]
    return float(draws[0] + wide * low), float(draws[0] + wide * high)


# ---- more that does less --------------------------------------------------------------------------------------------


def turning_points(sweep: Sweep) -> list[dict[str, Any]]:
    """For each effect and side of 0: the coefficient with the largest effect, and how much of it the largest
    coefficient loses, with an interval over questions. inverted_u: whether the interval of that loss is above 0.

    The peak is chosen by looking, so a loss that is barely there is no finding.
    """
    found = []
    for measure in sweep.effects:
        for side in (1.0, -1.0):
            points = [p for p in sweep.points if p[0] == "direction" and np.sign(float(p[1])) == side]
            if len(points) < 2:
                continue
            points.sort(key=lambda point: abs(float(point[1])))
            effects = [side * sweep.by_question(sweep.change(point, measure)) for point in points]
            sizes = np.array([interval(effect)[0] for effect in effects], np.float64)
            if np.isnan(sizes).all():
                continue
            peak = int(np.nanargmax(sizes))
            loss, low, high = interval(effects[peak] - effects[-1])
            row = {"measure": measure, "side": "positive" if side > 0 else "negative"}
            row |= {"peak": float(points[peak][1]), "largest": float(points[-1][1])}
            found.append(row | {"loss": loss, "low": low, "high": high, "inverted_u": bool(low > 0)})
    return found
