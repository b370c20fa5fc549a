"""How unusual a turn is for the anchor roles, and whether the conversation as a whole says that it has left them.

The single-answer p-value of a turn, (1 + number of questions to which the anchor's own responses score <= the turn) /
(Q + 1), is conformal: were the turn a response to one more such question, P(p <= u) <= u, whatever the distribution. A
question with several responses counts with the share of them that do: they are alike, and to count each would promise
too much (hierarchical conformal prediction; Lee, Barber and Willett, "Distribution-free inference with hierarchical
data", 2023). It says nothing of a conversation, whose turns depend on each other and on their place: that is what
`sequential` tests against reference conversations.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from personascope.drift.null import EVERYTHING, Null, turns_of
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.result import NO_RATE, TurnScores, Verdict
from personascope.drift.sequential import Standard, Turns, began

KEPT = 0.95  # share of the bootstrapped onsets that the set of onsets holds
BAND = 1.6449  # standard deviations around what is expected that hold 90 % of a normal variable

JUDGED = ("expected", "expected_low", "expected_high", "z", "evidence", "level")

_RANKED: WeakKeyDictionary[Reference, dict[str, tuple["Ranked", np.ndarray]]] = WeakKeyDictionary()


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


def answer_table(turns: TurnScores, reference: Reference, options: DriftOptions) -> pd.DataFrame:
    """Each turn beside single responses: percentile_assistant, percentile_others (%), answer_p_value; NaN without
    tokens."""
    anchor, others = ranked_of(reference, options)
    scores = turns.scores[options.scoring.score_method]
    return pd.DataFrame(
        {
            "percentile_assistant": percentile(scores, anchor.scores),
            "percentile_others": percentile(scores, others),
            "answer_p_value": conformal_p(scores, anchor),
        }
    )


def ranked_of(reference: Reference, options: DriftOptions) -> tuple[Ranked, np.ndarray]:
    """The anchor's scores by question, and all others' sorted; made once a reference: many conversations share it."""
    made, method = _RANKED.setdefault(reference, {}), options.scoring.score_method
    if method not in made:
        scores = reference.scores[method].astype(np.float64)
        anchor, other = (np.isin(reference.role, rows) for rows in (reference.anchors, reference.others))
        made[method] = Ranked.of(scores[anchor], reference.question_id[anchor]), np.sort(scores[other])
    return made[method]


def judge(turns: TurnScores, null: Null | None, options: DriftOptions, domain: Any) -> tuple[pd.DataFrame, Verdict]:
    """(one row a turn, the verdict) of a conversation whose metadata name this domain (or none).

    Columns: expected, expected_low, expected_high: mu, and the middle 90 % of the references were they normal, at that
    turn and length, as a score; z: the standardized score; evidence: S_t / h(t); level: what it must pass for an
    alarm; alarm: whether it has, here or before. Turns behind those of the references have none, and no verdict counts
    them.
    """
    alpha, n_turns = options.test.alpha, len(turns.n_tokens)
    empty = pd.DataFrame(dict.fromkeys(JUDGED, np.nan), index=range(n_turns)).assign(alarm=False)
    if null is None or not null.strata:
        return empty, Verdict(alpha, reason=null.reason if null else "no reference conversations were given")
    stratum = null.stratum(domain)
    test = null.strata[stratum]
    own = turns_of([turns], options, min(n_turns, test.turns))
    if np.isnan(own.scores).all():
        return empty, Verdict(alpha, reason="no turn has a score behind baseline_turns, or among those that are tested")
    evidence, level = test.standard.evidence(own)[0], test.level(alpha)
    alarm = np.maximum.accumulate(evidence) > level
    tested = slice(0, len(evidence) - 1)
    table = empty.copy()
    mean, sigma = (part[0] for part in test.standard.expected(own))
    # With a baseline taken off, what is expected of the score itself is that much higher.
    mean = mean + (turns.scores[options.scoring.score_method][: len(evidence)] - own.scores[0])
    columns = {"expected": mean, "expected_low": mean - BAND * sigma, "expected_high": mean + BAND * sigma}
    columns |= {"z": test.standard.z(own)[0], "evidence": evidence, "level": level, "alarm": alarm}
    for name, values in columns.items():
        table.loc[tested, name] = values
    alarm_turn = int(alarm.argmax()) if alarm.any() else None
    return table, Verdict(
        alpha=alpha,
        p_value=test.p_value(evidence.max(initial=0)),
        alarm_turn=alarm_turn,
        onset=None if alarm_turn is None else began(evidence, alarm_turn),
        onset_set=None if alarm_turn is None else onset_set(null.bootstraps[stratum], own, level, alarm_turn),
        references={"n": null.counts[stratum], "domain": stratum, "turns_max": test.turns},
        false_alarm_rate=rate_of(null, stratum, domain),
    )


def rate_of(null: Null, stratum: str, domain: Any) -> dict[str, Any]:
    """False alarms of the test that was made, on held-out references: within the stratum, or over all domains, at those
    of this one."""
    if stratum != EVERYTHING:
        return null.false_alarms_within.get(stratum, NO_RATE)
    known = domain if isinstance(domain, str) and domain in null.false_alarms else EVERYTHING
    return null.false_alarms.get(known, NO_RATE)


def onset_set(standards: list[Standard], own: Turns, level: float, alarm_turn: int) -> tuple[int, int]:
    """First and last turn at which the evidence begins, over the standards of resampled references.

    Where one of them gives no alarm, its evidence at the turn of the alarm counts.
    """
    starts = []
    for standard in standards:
        evidence = standard.evidence(own)[0]
        passed = np.flatnonzero(evidence > level)
        starts.append(began(evidence, int(passed[0]) if len(passed) else alarm_turn))
    tail = (1 - KEPT) / 2
    low, high = np.quantile(np.minimum(starts, alarm_turn), [tail, 1 - tail], method="closest_observation")
    return int(low), int(high)
