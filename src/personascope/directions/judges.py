"""What a judge is worth on responses whose label is known, and how far two judges agree.

AUC: the chance that a response labeled high is scored above one labeled low, ties half. Weighted kappa (Cohen 1968,
quadratic weights): 1 - mean (a - b)^2 / expected (a - b)^2 if the two were independent, which for whole numbers is
1 - mean (a - b)^2 / (var a + var b + (mean a - mean b)^2). A judge is fit where both, and the share of responses that
it scores at all, pass `LEAST` on every metric. Of few responses neither is given: a bootstrap of two that happen to lie
in order has an interval without a width.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from personascope.errors import UserError
from personascope.formats.files import write_json
from personascope.formats.judgements import FIT, SCALES, UNFIT, problem_counts, read_judgements, read_labeled
from personascope.formats.tables import plain, write_csv

# The least that a judge must reach on the labeled responses: the lower end of the AUC's interval, the kappa, and the
# share of the responses that it scores.
LEAST = {"auc": 0.8, "kappa": 0.6, "scored": 0.9}
DRAWS = 2000
LEAST_OF_KIND = 10  # scored responses labeled high, and low, below which a metric has neither AUC nor kappa
LEAST_OF_SUBJECT = 5  # labeled responses of each kind, below which a trait's own AUC says nothing
# The labels that count as high: in the trait or coherent, or fully in the role (those that the role filter keeps).
HIGH = {"trait": 50.0, "coherence": 50.0, "adherence": 3.0}

Statistic = Callable[[np.ndarray, np.ndarray], float]


def whole(scores: np.ndarray) -> np.ndarray:
    """Expected values as numbers of the scale: to the nearest, halves up."""
    return np.floor(scores + 0.5)


def auc(scores: np.ndarray, high: np.ndarray) -> float:
    """Chance that a score with high True is above one with False, ties half; NaN where one kind is missing."""
    positives = int(high.sum())
    negatives = len(high) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[high].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def weighted_kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Quadratic weighted kappa of two lists of whole numbers; NaN where neither varies."""
    by_chance = a.var() + b.var() + (a.mean() - b.mean()) ** 2 if len(a) else 0.0
    return float(1 - ((a - b) ** 2).mean() / by_chance) if by_chance > 0 else float("nan")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; NaN where one does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def interval(statistic: Statistic, a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval over the items: percentiles of the statistic on items drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(a), (DRAWS, len(a))) if len(a) else np.zeros((0, 0), int)
    values = np.array([statistic(a[rows], b[rows]) for rows in drawn])
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


# ---- one judge ------------------------------------------------------------------------------------------------------


def write_worth(labeled: str | Path, judgements: str | Path, retest: str | Path, output: str | Path) -> None:
    """Write worth.json: what the judge is worth on each metric, and whether it is fit to judge."""
    known = read_labeled(labeled)
    (first, described), (second, _) = read_judgements(judgements), read_judgements(retest)
    rows = of_rows(known, first, labeled, judgements)
    if second["row"].tolist() != first["row"].tolist():
        raise UserError(f"{retest}: its rows are not those of {judgements}; delete it and run again")
    write_json(output, plain(worth(rows, first, second) | {"judge": described}))


def of_rows(
    labeled: Sequence[dict[str, Any]], table: pd.DataFrame, file: str | Path, judgements: str | Path
) -> list[dict[str, Any]]:
    """The labeled responses that a table judges, in its order; UserError where it judges others."""
    rows = [labeled[row] for row in table["row"] if row < len(labeled)]
    if [row["metric"] for row in rows] != table["metric"].tolist():
        raise UserError(f"{judgements}: its rows are not those of {file}; delete it and run again")
    return rows


def worth(rows: Sequence[Mapping[str, Any]], first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """The content of worth.json but its "judge": metrics, fit, verdict, and the thresholds.

    rows: labeled responses; first, second: their judgements in the same order, in the rubric's wording and the other.
    """
    metrics = {}
    for metric in SCALES:
        chosen = np.array([row["metric"] == metric for row in rows], bool)
        if chosen.any():
            own = [row for row in rows if row["metric"] == metric]
            metrics[metric] = _metric(metric, own, first.loc[chosen], second.loc[chosen])
    fit = bool(metrics) and not any(found["against"] for found in metrics.values())
    return {"metrics": metrics, "fit": fit, "verdict": FIT if fit else UNFIT, "thresholds": LEAST}


def _metric(metric: str, rows: list[Mapping[str, Any]], first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    scores, labels = first["score"].to_numpy(float), np.array([row["label"] for row in rows], float)
    there = np.isfinite(scores)
    lengths = np.array([len(row["answer"]) for row in rows], float)
    high = labels >= HIGH[metric]
    kinds = {"high": int(high[there].sum()), "low": int((~high)[there].sum())}
    enough = there if min(kinds.values()) >= LEAST_OF_KIND else np.zeros_like(there)
    a, b = _classes(metric, scores[enough]), _classes(metric, labels[enough])
    found = {
        "n": len(rows),
        "scored_of_kind": kinds,
        "scored": float(there.mean()),
        "problems": problem_counts(first),
        "mass": float(first["mass"].to_numpy(float).mean()),
        "auc": auc(scores[enough], high[enough]),
        "auc_interval": interval(auc, scores[enough], high[enough]),
        "kappa": weighted_kappa(a, b),
        "kappa_interval": interval(weighted_kappa, a, b),
        "length_correlation": _beyond_labels(scores[there], lengths[there], labels[there]),
        "retest": compared(metric, scores, second["score"].to_numpy(float)),
    }
    if metric == "trait":
        found["by_subject"] = _by_subject(rows, scores, high)
    return found | {"against": _against(found)}


def _classes(metric: str, values: np.ndarray) -> np.ndarray:
    """What kappa compares: whole numbers of adherence; of the scales to 100, whether it is the upper half."""
    return whole(values) if metric == "adherence" else (values >= HIGH[metric]).astype(float)


def _by_subject(rows: list[Mapping[str, Any]], scores: np.ndarray, high: np.ndarray) -> dict[str, float]:
    subjects = np.array([row["subject"] for row in rows])
    result = {}
    for subject in sorted(set(subjects)):
        mine = (subjects == subject) & np.isfinite(scores)
        if min(high[mine].sum(), (~high[mine]).sum()) >= LEAST_OF_SUBJECT:
            result[str(subject)] = auc(scores[mine], high[mine])
    return result


def _beyond_labels(scores: np.ndarray, lengths: np.ndarray, labels: np.ndarray) -> float:
    """Spearman correlation of score and the answer's length within labels: ranks less their label's mean rank."""
    if len(scores) < 2:
        return float("nan")
    ranks = np.stack([rankdata(scores), rankdata(lengths)])
    for label in set(labels):
        ranks[:, labels == label] -= ranks[:, labels == label].mean(1, keepdims=True)
    return float(np.corrcoef(ranks)[0, 1]) if (ranks.std(1) > 1e-9).all() else float("nan")


def _against(found: dict[str, Any]) -> str:
    """What speaks against the judge on one metric; "" where nothing does."""
    said = []
    if found["scored"] < LEAST["scored"]:
        said.append(f"{100 * found['scored']:.0f} % scored < {100 * LEAST['scored']:.0f} %")
    high, low = found["scored_of_kind"].values()
    if min(high, low) < LEAST_OF_KIND:
        said.append(f"AUC cannot be measured on {high} high and {low} low ones: {LEAST_OF_KIND} of each are needed")
        return ", ".join(said)
    least = found["auc_interval"][0]
    if not least >= LEAST["auc"]:
        said.append(f"AUC {found['auc']:.2f} (at least {least:.2f}) < {LEAST['auc']:g}")
    if not found["kappa"] >= LEAST["kappa"]:
        known = np.isfinite(found["kappa"])
        said.append(f"kappa {found['kappa']:.2f} < {LEAST['kappa']:g}" if known else "kappa cannot be measured")
    return ", ".join(said)


# ---- two of them ----------------------------------------------------------------------------------------------------


def compared(metric: str, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """How two lists of scores of the same items agree, where both have one: {n, both, kappa, spearman, difference}.

    kappa: weighted, of whole numbers on the metric's scale; difference: mean of b - a.
    """
    both = np.isfinite(a) & np.isfinite(b)
    mine, other = a[both], b[both]
    return {
        "n": len(a),
        "both": float(both.mean()) if len(a) else float("nan"),
        "kappa": weighted_kappa(whole(mine), whole(other)),
        "spearman": spearman(mine, other),
        "difference": float((other - mine).mean()) if both.any() else float("nan"),
    }


def write_agreement(
    labeled: str | Path, judgements: Mapping[str, str | Path], retests: Mapping[str, str | Path], output: str | Path
) -> None:
    """Write agreement.csv: each pair of judges on the labeled responses, and each judge against its second wording."""
    known = read_labeled(labeled)
    metrics = np.array([row["metric"] for row in known])
    scores = {name: _scores_of(known, labeled, path) for name, path in judgements.items()}
    again = {name: _scores_of(known, labeled, path) for name, path in retests.items()}
    pairs = [(a, b, "two judges", scores[a], scores[b]) for a, b in combinations(scores, 2)]
    pairs += [(name, name, "second wording", scores[name], again[name]) for name in scores]
    rows = [
        {"metric": metric, "judge": a, "other": b, "comparison": kind}
        | compared(metric, mine[metrics == metric], other[metrics == metric])
        for metric in SCALES
        if (metrics == metric).any()
        for a, b, kind, mine, other in pairs
    ]
    write_csv(output, pd.DataFrame(rows))


def _scores_of(known: Sequence[dict[str, Any]], labeled: str | Path, path: str | Path) -> np.ndarray:
    """A judge's scores of all labeled responses, float64; NaN where it was not asked, or has none."""
    table, _ = read_judgements(path)
    of_rows(known, table, labeled, path)
    scores = np.full(len(known), np.nan)
    scores[table["row"].to_numpy()] = table["score"]
    return scores
