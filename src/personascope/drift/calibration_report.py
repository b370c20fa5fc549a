"""How far an analysis can be trusted: what its roles score, how stable its axis is, how its test errs."""

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from personascope.directions.block_sums import BlockSums
from personascope.directions.stats import proportion_interval
from personascope.drift.calibration import PREFIXES, Calibrator, _judged, fit, sample_of
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference, build
from personascope.drift.sequential import SEQUENTIAL_TESTS
from personascope.drift.strength import HIGH
from personascope.formats.files import write_json
from personascope.formats.tables import plain


def role_quartiles(reference: Reference, score_method: str) -> pd.DataFrame:
    """role, q25, median, q75 of the scores of each role's responses."""
    scores = reference.scores[score_method]
    rows = []
    for index, name in enumerate(reference.role_names):
        of_role = scores[reference.role == index]
        quartiles = np.percentile(of_role, [25, 50, 75]) if len(of_role) else np.full(3, np.nan)
        rows.append({"role": name, **dict(zip(("q25", "median", "q75"), quartiles, strict=True))})
    return pd.DataFrame(rows)


def calibration_report(reference: Reference, options: DriftOptions, seed: int) -> dict[str, Any]:
    """The measured error rates of the sequential test, the axis's reliability, and the roles' scores, as plain JSON."""
    draws = {"agreement": reference.agreement, "cos_to_axis": reference.cos_to_axis}
    return plain(
        {
            "options": asdict(options.axis) | asdict(options.scoring),
            "responses": len(reference),
            "assistant_responses": int((reference.role == reference.assistant).sum()),
            "axis": {
                "split_half": reference.split_half,
                "draws": len(reference.agreement),
                **{name: _percentiles(values) for name, values in draws.items()},
            },
            "top_away_share_null": _share_nulls(reference),
            "false_alarms": false_alarm_rate(reference, options, seed=seed),
            "power_by_role": power_by_role(reference, options, seed=seed).to_dict("records"),
            "role_scores": role_quartiles(reference, options.scoring.score_method).to_dict("records"),
        }
    )


def _percentiles(values: np.ndarray) -> dict[str, float | None]:
    found = np.percentile(values, [2.5, 50, 97.5]) if len(values) else [None] * 3
    return dict(zip(("low", "median", "high"), found, strict=True))


def _share_nulls(reference: Reference) -> list[dict[str, Any]]:
    """Median and 95th percentile of the share of away_mass that few features cover between two answers to one question:
    a row a length of the table and direction; none without pairs."""
    rows = []
    for top_features, rises in itertools.product((10, 20, 50), (False, True)):
        if (null := reference.pairs.null(top_features, rises)) is not None:
            shares = {"median": null.quantile(0.5), "high": null.quantile(HIGH), "pairs": len(null.shares)}
            shares["median_tokens"] = float(np.median(reference.pairs.n_tokens))
            rows.append({"top_features": top_features, "direction": "rise" if rises else "fall"} | shares)
    return rows


def false_alarm_rate(
    reference: Reference, options: DriftOptions, turns: int = 8, repeats: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Share of conversations of held-out assistant responses in which the sequential test rejects; alpha is due.

    The assistant's questions are split at random into halves: one calibrates, the responses to the other are strung
    into conversations of `turns` turns, each response once. rate, adjusted_rate: means over `repeats` splits, with
    95 % intervals (Clopper-Pearson). The splits share their responses, so that the intervals count
    n_conversations, those of one split. Without enough responses the rates are None and `reason` says why.
    """
    trials = _Trials(reference, options, turns, repeats, seed)
    result: dict[str, Any] = {
        "alpha": options.scoring.alpha,
        "sequential_test": options.scoring.sequential_test,
        "turns": turns,
        "repeats": repeats,
        "n_conversations": trials.n_conversations,
        "reason": trials.reason or None,
    }
    onsets = trials.onsets(reference.assistant, 0)
    for adjusted, prefix in PREFIXES.items():
        values = (None, None, None) if trials.reason else _rate(onsets[adjusted] >= 0, trials.n_conversations)
        result |= dict(zip((f"{prefix}rate", f"{prefix}rate_low", f"{prefix}rate_high"), values, strict=True))
    return result


def power_by_role(
    reference: Reference, options: DriftOptions, turns: int = 8, change: int = 4, repeats: int = 20, seed: int = 0
) -> pd.DataFrame:
    """How often and how late the test finds each other role, when its responses follow from turn `change` on.

    Conversations as in `false_alarm_rate`, to questions that calibrate nothing; their turns from `change` on are
    responses of the role. detection_rate: share whose onset is at `change` or later (an earlier one is a false
    alarm), with a 95 % interval; delay_mean: onset - change over the detected, in turns; the same as adjusted_*. One
    row a role, the most detected first; without enough responses the rates are NaN and `reason` says why.
    """
    trials = _Trials(reference, options, turns, repeats, seed)
    rows = []
    for role, name in enumerate(reference.role_names):
        if role == reference.assistant:
            continue
        onsets = trials.onsets(role, change)
        n = len(onsets[False]) // repeats
        row: dict[str, Any] = {"role": name, "turns": turns, "change": change, "n_conversations": n}
        for adjusted, prefix in PREFIXES.items():
            found = onsets[adjusted] >= change
            values = _rate(found, n) if n else (np.nan, np.nan, np.nan)
            names = (f"{prefix}detection_rate", f"{prefix}detection_low", f"{prefix}detection_high")
            row |= dict(zip(names, values, strict=True))
            row[f"{prefix}delay_mean"] = float((onsets[adjusted][found] - change).mean()) if found.any() else np.nan
        row["reason"] = trials.reason or ("" if n else f"too few responses of {name}")
        rows.append(row)
    return pd.DataFrame(rows).sort_values("detection_rate", ascending=False, kind="stable", ignore_index=True)


class _Trials:
    """Random conversations of reference responses, each calibrated on the questions that it does not hold.

    reason: why there are none, else "".
    """

    def __init__(self, reference: Reference, options: DriftOptions, turns: int, repeats: int, seed: int) -> None:
        self.sample, self.turns, self.rng = sample_of(reference, options), turns, np.random.default_rng(seed)
        self.test, self.alpha = SEQUENTIAL_TESTS[options.scoring.sequential_test], options.scoring.alpha
        mine = self.sample.question_id[self.sample.is_assistant]
        questions, counts = np.unique(mine, return_counts=True)
        half = len(questions) // 2
        # Questions may differ in their number of responses: the smallest halves that can be drawn count.
        self.n_conversations = int(np.sort(counts)[: len(counts) - half].sum()) // turns
        self.reason = self._too_few(half)
        self.splits = [self._split(self.rng.permutation(questions), half) for _ in range(0 if self.reason else repeats)]

    def _too_few(self, n_questions: int) -> str:
        lowest = np.full(self.turns, 1 / (n_questions + 1))
        if not _judged(lowest, self.test, self.alpha, n_questions)["rejects"].to_numpy().any():
            return f"half of the assistant's questions are {n_questions}: too few to tell any conversation from it"
        return "" if self.n_conversations else f"half of the questions have fewer than {self.turns} responses"

    def _split(self, questions: np.ndarray, half: int) -> tuple[Calibrator, np.ndarray]:
        """The calibrator of the first half, and which responses are to the others, bool [N]."""
        calibrating = np.isin(self.sample.question_id, questions[:half])
        return fit(self.sample[calibrating]), np.isin(self.sample.question_id, questions[half:])

    def onsets(self, role: int, change: int) -> dict[bool, np.ndarray]:
        """{adjusted or not: first turn that rejects, or -1}, of the conversations of all splits, int [n].

        The assistant's responses up to turn `change`, then the role's; the same number of conversations in each split.
        """
        found = [self._rejections(*split, role, change) for split in self.splits]
        n = min((len(rejects[False]) for rejects in found), default=0)
        onsets = {}
        for adjusted in PREFIXES:
            rejects = np.concatenate([np.zeros((0, self.turns), bool), *(each[adjusted][:n] for each in found)])
            onsets[adjusted] = np.where(rejects.any(1), rejects.argmax(1), -1)
        return onsets

    def _rejections(
        self, calibrator: Calibrator, testing: np.ndarray, role: int, change: int
    ) -> dict[bool, np.ndarray]:
        """{adjusted or not: bool [n, turns]} of one split."""
        parts = [self._strung(testing & (self.sample.role == role), self.turns - change)]
        if change:
            parts.insert(0, self._strung(testing & self.sample.is_assistant, change))
        n = min(map(len, parts))
        rows = np.concatenate([part[:n] for part in parts], axis=1)
        chosen = self.sample[rows.ravel()]
        p_values = calibrator.p_values(chosen.scores, chosen.regressors)
        threshold = self.test.threshold(self.alpha, self.turns, calibrator.assistant.n_questions)
        return {
            adjusted: self.test.evidence(values.reshape(rows.shape)) >= threshold
            for adjusted, values in p_values.items()
        }

    def _strung(self, among: np.ndarray, length: int) -> np.ndarray:
        """Rows [n, length] of the sample, each at most once, in random order."""
        rows = self.rng.permutation(np.flatnonzero(among))
        n = len(rows) // length
        return rows[: n * length].reshape(n, length)


def _rate(hits: np.ndarray, n: int) -> tuple[float, float, float]:
    """(share of hits, low, high): Clopper-Pearson, 95 %, as if the share had been seen in n conversations."""
    share = float(hits.mean())
    return share, *proportion_interval(share * n, n)


def write_reference(
    responses: dict[str, str],
    sums: dict[str, str],
    options: DriftOptions,
    *,
    draws: int,
    seed: int,
    reference: str,
    calibration: str,
) -> None:
    """From {role: file} of features (or residual means) and block sums to the reference and what it is worth."""
    loaded = {role: BlockSums.load(path) for role, path in sums.items()}
    built = build(dict(responses), loaded, options, draws, seed)
    built.save(reference)
    write_json(calibration, calibration_report(built, options, seed))
