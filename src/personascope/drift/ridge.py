"""Ridge regression judged on groups that it has not seen: nested cross-validation, for few rows or for few features.

Coefficients b minimize |y - mean(y) - Z b|^2 + penalty |b|^2, where Z are the features standardized by the training
rows alone. scikit-learn deals the groups to folds; its RidgeCV is not used, since its quick path leaves out single rows
and not groups, and the other one solves each penalty anew: one eigendecomposition here serves all of them.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.model_selection import GroupKFold

FOLDS = 5
# From next to none, where features are few, to so much that only the mean is left, for 40,000 rows of 5,000 features.
PENALTIES = np.logspace(0, 9, 19)
DRAWS = 2000
LEAST_DEVIATION = 1e-12  # of a feature; one that varies less says nothing and is 0


@dataclass(frozen=True)
class Held:
    """What models predict that have not seen a row's fold: predicted float64 [n]; baseline [n], the mean of the rows
    that they were trained on; penalties [FOLDS], those chosen within the training rows of each fold."""

    predicted: np.ndarray
    baseline: np.ndarray
    penalties: np.ndarray


def ridge_path(x: np.ndarray, y: np.ndarray, fresh: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Predictions float64 [P, m] for the rows fresh [m, d] under each penalty [P], trained on x [n, d] and y [n].

    With n <= d the kernel Z Z' is decomposed, else Z' Z: b = Z' (Z Z' + penalty)^-1 y = (Z' Z + penalty)^-1 Z' y.
    """
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    scale = np.where(deviation > LEAST_DEVIATION, 1 / np.maximum(deviation, LEAST_DEVIATION), 0)
    z, z_fresh = x - mean, fresh - mean
    z *= scale
    z_fresh *= scale
    level = y.mean()
    if len(z) <= z.shape[1]:
        square, right, left = z @ z.T, y - level, z_fresh @ z.T
    else:
        square, right, left = z.T @ z, z.T @ (y - level), z_fresh
    eigenvalues, vectors = np.linalg.eigh(square)
    along = (vectors.T @ right) / (np.maximum(eigenvalues, 0) + penalties[:, None])
    return level + along @ (left @ vectors).T


def held_out(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Held:
    """Predict each row of x [n, d], y [n] by a model without its fold, whole groups [n] in one fold.

    The penalty of a fold is the one that predicts the other folds best, each by a model that has seen neither of the
    two: so the model without folds j and k is an inner one of both. ValueError where there are fewer groups than FOLDS.
    """
    fold = np.empty(len(y), np.int64)
    for number, (_, rows) in enumerate(GroupKFold(FOLDS).split(x, y, groups)):
        fold[rows] = number
    errors = np.zeros((FOLDS, len(PENALTIES)))
    for pair in combinations(range(FOLDS), 2):
        left_out = np.isin(fold, pair)
        wrong = (ridge_path(x[~left_out], y[~left_out], x[left_out], PENALTIES) - y[left_out]) ** 2
        for outer, inner in (pair, pair[::-1]):
            errors[outer] += wrong[:, fold[left_out] == inner].sum(1)
    chosen = PENALTIES[errors.argmin(1)]
    predicted, baseline = np.empty(len(y)), np.empty(len(y))
    for number in range(FOLDS):
        rows = fold == number
        predicted[rows] = ridge_path(x[~rows], y[~rows], x[rows], chosen[[number]])[0]
        baseline[rows] = y[~rows].mean()
    return Held(predicted, baseline, chosen)


def r_squared(held: Held, y: np.ndarray, groups: np.ndarray, seed: int) -> tuple[float, float, float]:
    """R² = 1 - sum (y - predicted)^2 / sum (y - baseline)^2 over all rows, and its 95 % bootstrap interval (low, high).

    Whole groups are drawn, DRAWS times; the predictions stay, so that the interval is that of the models at hand.
    """
    _, owner = np.unique(groups, return_inverse=True)
    missed, spread = (np.bincount(owner, (y - other) ** 2) for other in (held.predicted, held.baseline))
    n = len(missed)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS)
    low, high = np.percentile(1 - (counts @ missed) / (counts @ spread), [2.5, 97.5])
    return float(1 - missed.sum() / spread.sum()), float(low), float(high)
