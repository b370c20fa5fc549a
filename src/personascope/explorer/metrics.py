"""What the atlas says of a feature besides its place: how it is spread over roles."""

import numpy as np

BLOCK = 8192  # features that are in float64 at a time
TINY = 1e-8
METRICS = ("pref_ratio", "active_frac", "cv", "mean_activation", "max_activation", "bridge_entropy")


def shares(x: np.ndarray) -> np.ndarray:
    """v / sum(v) over roles of the profiles x [R, n], v = x where it is positive and else 0; 0 where all are."""
    positive = np.maximum(x, 0)
    total = positive.sum(0)
    return np.divide(positive, total, out=np.zeros_like(positive), where=total > 0)


def feature_metrics(x: np.ndarray, features: np.ndarray, centered: bool) -> dict[str, np.ndarray]:
    """{one of METRICS: float64 [n]} of features whose profiles are x [R, n], and `features` [R, n] before the
    transform; NaN where a metric has no meaning.

    pref_ratio: the largest value over the second (none when centered, or with one role); active_frac: share of roles
    with x > 0 (not centered: with x != 0, the same but for SAEs with activations below 0); cv: sd / |mu| (none when
    centered, where mu is 0); max_activation: by magnitude, with its sign; bridge_entropy: entropy of the shares over
    ln R, 1 for a feature that all roles share alike.
    """
    roles, count = x.shape
    mu, sd = x.mean(0), x.std(0)
    share = shares(x)
    entropy = -(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(0)
    none = np.full(count, np.nan)
    ratio, cv = none, none
    if not centered:
        cv = sd / np.maximum(np.abs(mu), TINY)
        if roles > 1:
            second, first = np.partition(x, roles - 2, axis=0)[-2:]
            ratio = first / np.maximum(second, TINY)
    return {
        "pref_ratio": ratio,
        "active_frac": (x > 0 if centered else x != 0).mean(0),
        "cv": cv,
        "mean_activation": features.mean(0, dtype=np.float64),
        "max_activation": _largest(features).astype(np.float64),
        "bridge_entropy": entropy / np.log(roles) if roles > 1 else none,
    }


def _largest(features: np.ndarray) -> np.ndarray:
    """The values of largest magnitude, with their sign, [n] of [R, n]."""
    high, low = features.max(0), features.min(0)
    return np.where(-low > high, low, high)


def metrics_of(x: np.ndarray, features: np.ndarray, ids: np.ndarray, centered: bool) -> dict[str, np.ndarray]:
    """`feature_metrics` of the features `ids` [n] of x and features [R, D], some at a time."""
    parts = [
        feature_metrics(x[:, ids[start : start + BLOCK]], features[:, ids[start : start + BLOCK]], centered)
        for start in range(0, len(ids), BLOCK)
    ]
    return {name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0) for name in METRICS}
