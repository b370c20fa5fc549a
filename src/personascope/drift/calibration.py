"""How unusual a turn is for the assistant, and from which turn on "still the assistant" is rejected.

Conformal p-value of a turn: (1 + number of questions to which the assistant's own responses score <= the turn) /
(Q + 1). A question with several responses counts with the share of them that do: they are alike, and to count each
would promise too much (hierarchical conformal prediction; Lee, Barber and Willett, "Distribution-free inference with
hierarchical data", 2023). Were the turn a response to one more such question, p would be <= any u with probability at
most u, whatever the distribution. Small means further from the assistant than its own responses are. What stays an
assumption is that turns are like role responses, which answer single questions; `false_alarm_rate` measures the rest.
Confounds are taken out by a straight line: for turns far longer than any response it is drawn beyond what it was
fitted on.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from personascope.block_sums import deal_questions
from personascope.drift.reference import Reference
from personascope.drift.sequential import SEQUENTIAL_TESTS, SequentialTest
from personascope.drift.turns import MASS_METRICS
from personascope.drift.types import DriftOptions, TurnScores
from personascope.stats import proportion_interval

FOLDS = 5
TINY = 1e-12
PREFIXES = {False: "", True: "adjusted_"}  # of the columns without and with confounds taken out
RANK = 1e-6  # of the largest singular value: regressors that say the same share one coefficient

_CALIBRATORS: WeakKeyDictionary[Reference, dict[str, "Calibrator"]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Sample:
    """Some reference responses: scores [n], regressors [n, M], role [n], question_id [n], is_assistant bool [n]."""

    scores: np.ndarray
    regressors: np.ndarray
    role: np.ndarray
    question_id: np.ndarray
    is_assistant: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Sample":
        return Sample(*(values[rows] for values in vars(self).values()))


@dataclass(frozen=True)
class Ranked:
    """Scores float64 [n] in ascending order, and questions [n + 1]: how many of them the lowest k responses make up.

    Each response makes up one k-th of its question, which has k.
    """

    scores: np.ndarray
    questions: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, question_id: np.ndarray) -> "Ranked":
        _, place, counts = np.unique(question_id, return_inverse=True, return_counts=True)
        order = np.argsort(scores)
        return cls(scores[order], np.concatenate([[0.0], np.cumsum(1 / counts[place[order]])]))

    @property
    def n_questions(self) -> int:
        return round(self.questions[-1])


@dataclass(frozen=True)
class Calibrator:
    """Reference scores: the assistant's as they are and with confounds taken out, and all others' (sorted float64).

    Adjusted score = score - coefficients . (regressors - centre); centre is the assistant's mean regressors.
    """

    assistant: Ranked
    others: np.ndarray
    adjusted_assistant: Ranked
    coefficients: np.ndarray
    centre: np.ndarray

    def adjust(self, scores: np.ndarray, regressors: np.ndarray) -> np.ndarray:
        """Scores [n] with what length and activation mass explain taken out."""
        return scores - (regressors - self.centre) @ self.coefficients

    def p_values(self, scores: np.ndarray, regressors: np.ndarray) -> dict[bool, np.ndarray]:
        """{adjusted or not: conformal p-values [n]}."""
        adjusted = self.adjust(scores, regressors)
        return {False: conformal_p(scores, self.assistant), True: conformal_p(adjusted, self.adjusted_assistant)}


def confound_regressors(mass: dict[str, np.ndarray], n_tokens: np.ndarray) -> np.ndarray:
    """float64 [n, 5]: log1p of each mass metric and of the number of tokens."""
    return np.log1p(np.stack([*(mass[metric] for metric in MASS_METRICS), n_tokens], axis=1).astype(np.float64))


def sample_of(reference: Reference, options: DriftOptions) -> Sample:
    """All reference responses under the selected score."""
    return Sample(
        scores=reference.scores[options.score_method].astype(np.float64),
        regressors=confound_regressors(reference.mass, reference.n_tokens),
        role=reference.role,
        question_id=reference.question_id,
        is_assistant=reference.role == reference.assistant,
    )


def fit(sample: Sample) -> Calibrator:
    """The calibrator of a sample; its adjusted scores are cross-fitted over questions, as its scores are."""
    centre = sample.regressors[sample.is_assistant].mean(0) if sample.is_assistant.any() else 0.0
    ids, folds = deal_questions(sample.question_id, FOLDS)
    fold = folds[np.searchsorted(ids, sample.question_id)]
    mine = sample[sample.is_assistant]
    adjusted = mine.scores.copy()
    for held in np.unique(fold):
        rest = fold != held
        rows = fold[sample.is_assistant] == held
        adjusted[rows] -= (mine.regressors[rows] - centre) @ confound_slopes(sample[rest] if rest.any() else sample)
    return Calibrator(
        assistant=Ranked.of(mine.scores, mine.question_id),
        others=np.sort(sample.scores[~sample.is_assistant]),
        adjusted_assistant=Ranked.of(adjusted, mine.question_id),
        coefficients=confound_slopes(sample),
        centre=np.broadcast_to(centre, sample.regressors.shape[1:]),
    )


def confound_slopes(sample: Sample) -> np.ndarray:
    """Least-squares slopes [M] of score on the regressors within roles: role means are taken out of both sides.

    Across roles, a persona that talks longer would have its own effect regressed away. Regressors that do not vary, or
    vary together, are safe: the smallest slopes that explain as much.
    """
    centred = _within(np.column_stack([sample.regressors, sample.scores]), sample.role)
    x, y = centred[:, :-1], centred[:, -1]
    spread = np.sqrt(np.square(x).mean(0)) if len(x) else np.zeros(x.shape[1])
    scale = np.where(spread > TINY, spread, np.inf)
    return np.linalg.lstsq(x / scale, y, rcond=RANK)[0] / scale


def _within(values: np.ndarray, role: np.ndarray) -> np.ndarray:
    """Columns of values [n, M] minus their mean over the rows of the same role."""
    counts = np.maximum(np.bincount(role), 1)
    means = np.stack([np.bincount(role, column) / counts for column in values.T], axis=1)
    return values - means[role]


def conformal_p(scores: np.ndarray, reference: Ranked) -> np.ndarray:
    """(1 + number of reference questions that score <= the score) / (Q + 1) of each score; NaN where the score is."""
    below = reference.questions[np.searchsorted(reference.scores, scores, side="right")]
    return np.where(np.isnan(scores), np.nan, (1 + below) / (reference.n_questions + 1))


def percentile(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Share of the sorted reference scores that are <= each score, in percent; NaN without either."""
    if not len(reference):
        return np.full(len(scores), np.nan)
    shares = 100 * np.searchsorted(reference, scores, side="right") / len(reference)
    return np.where(np.isnan(scores), np.nan, shares)


def calibrate(turns: TurnScores, reference: Reference, options: DriftOptions) -> tuple[pd.DataFrame, int | None]:
    """(one row a turn, onset: the first turn that rejects "still the assistant", or None).

    Columns: assistant_turn; percentile_assistant, percentile_others (%); p_value; adjusted_score, adjusted_p_value;
    evidence: what the test makes of p_value (adjusted_p_value with `confound_adjust`), nats, and evidence_since: the
    turn from which on it was gathered; threshold; testable: whether the lowest of scores, here and before, would
    reject; rejects: evidence >= threshold. Turns without tokens have no values and do not reject; the test skips them.
    """
    calibrator, test = calibrator_of(reference, options), SEQUENTIAL_TESTS[options.sequential_test]
    tested = np.flatnonzero(turns.n_tokens > 0)
    scores = np.full(len(turns.n_tokens), np.nan)
    scores[tested] = turns.scores[options.score_method][tested]
    regressors = confound_regressors(turns.mass, turns.n_tokens)
    p_values = calibrator.p_values(scores, regressors)
    judged = _judged(p_values[options.confound_adjust][tested], test, options.alpha, calibrator.assistant.n_questions)
    judged["evidence_since"] = tested[judged["evidence_since"]]
    table = pd.DataFrame(
        {
            "assistant_turn": np.arange(len(scores)),
            "percentile_assistant": percentile(scores, calibrator.assistant.scores),
            "percentile_others": percentile(scores, calibrator.others),
            "p_value": p_values[False],
            "adjusted_score": calibrator.adjust(scores, regressors),
            "adjusted_p_value": p_values[True],
        }
    ).join(judged.set_index(tested))
    table = table.fillna({"testable": False, "rejects": False}).astype({"testable": bool, "rejects": bool})
    rejects = table["rejects"].to_numpy()
    return table, int(np.argmax(rejects)) if rejects.any() else None


def _judged(p_values: np.ndarray, test: SequentialTest, alpha: float, n_questions: int) -> pd.DataFrame:
    """evidence, evidence_since, threshold, testable and rejects of p-values [T], a row each."""
    evidence = test.evidence(p_values[None])[0]
    threshold = test.threshold(alpha, len(p_values), n_questions)
    lowest = np.full((1, len(p_values)), 1 / (n_questions + 1))
    return pd.DataFrame(
        {
            "evidence": evidence,
            "evidence_since": test.began(evidence),
            "threshold": threshold,
            "testable": test.evidence(lowest)[0] >= threshold,
            "rejects": evidence >= threshold,
        }
    )


def calibrator_of(reference: Reference, options: DriftOptions) -> Calibrator:
    """The calibrator of all responses, made once a reference: many conversations are held against the same one."""
    made = _CALIBRATORS.setdefault(reference, {})
    if options.score_method not in made:
        made[options.score_method] = fit(sample_of(reference, options))
    return made[options.score_method]


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
        "alpha": options.alpha,
        "sequential_test": options.sequential_test,
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
        self.test, self.alpha = SEQUENTIAL_TESTS[options.sequential_test], options.alpha
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
            return f"half of the assistant's questions are {n_questions}: no conversation could be told from it by them"
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
