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
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from personascope.directions.block_sums import deal_questions
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.result import TurnScores
from personascope.drift.sequential import SEQUENTIAL_TESTS, SequentialTest
from personascope.drift.turns import MASS_METRICS

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

    Adjusted score = score - coefficients . (regressors - center); center is the assistant's mean regressors.
    """

    assistant: Ranked
    others: np.ndarray
    adjusted_assistant: Ranked
    coefficients: np.ndarray
    center: np.ndarray

    def adjust(self, scores: np.ndarray, regressors: np.ndarray) -> np.ndarray:
        """Scores [n] with what length and activation mass explain taken out."""
        return scores - (regressors - self.center) @ self.coefficients

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
        scores=reference.scores[options.scoring.score_method].astype(np.float64),
        regressors=confound_regressors(reference.mass, reference.n_tokens),
        role=reference.role,
        question_id=reference.question_id,
        is_assistant=reference.role == reference.assistant,
    )


def fit(sample: Sample) -> Calibrator:
    """The calibrator of a sample; its adjusted scores are cross-fitted over questions, as its scores are."""
    center = sample.regressors[sample.is_assistant].mean(0) if sample.is_assistant.any() else 0.0
    ids, folds = deal_questions(sample.question_id, FOLDS)
    fold = folds[np.searchsorted(ids, sample.question_id)]
    mine = sample[sample.is_assistant]
    adjusted = mine.scores.copy()
    for held in np.unique(fold):
        rest = fold != held
        rows = fold[sample.is_assistant] == held
        adjusted[rows] -= (mine.regressors[rows] - center) @ confound_slopes(sample[rest] if rest.any() else sample)
    return Calibrator(
        assistant=Ranked.of(mine.scores, mine.question_id),
        others=np.sort(sample.scores[~sample.is_assistant]),
        adjusted_assistant=Ranked.of(adjusted, mine.question_id),
        coefficients=confound_slopes(sample),
        center=np.broadcast_to(center, sample.regressors.shape[1:]),
    )


def confound_slopes(sample: Sample) -> np.ndarray:
    """Least-squares slopes [M] of score on the regressors within roles: role means are taken out of both sides.

    Across roles, a persona that talks longer would have its own effect regressed away. Regressors that do not vary, or
    vary together, are safe: the smallest slopes that explain as much.
    """
    centered = _within(np.column_stack([sample.regressors, sample.scores]), sample.role)
    x, y = centered[:, :-1], centered[:, -1]
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
    calibrator, test = calibrator_of(reference, options), SEQUENTIAL_TESTS[options.scoring.sequential_test]
    tested = np.flatnonzero(turns.n_tokens > 0)
    scores = np.full(len(turns.n_tokens), np.nan)
    scores[tested] = turns.scores[options.scoring.score_method][tested]
    regressors = confound_regressors(turns.mass, turns.n_tokens)
    p_values = calibrator.p_values(scores, regressors)
    judged = _judged(
        p_values[options.scoring.confound_adjust][tested], test, options.scoring.alpha, calibrator.assistant.n_questions
    )
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
    if options.scoring.score_method not in made:
        made[options.scoring.score_method] = fit(sample_of(reference, options))
    return made[options.scoring.score_method]
