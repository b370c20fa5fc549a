"""Statistics that several stages share."""

from scipy.special import betaincinv


def proportion_interval(hits: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a proportion: `hits` of `n` trials."""
    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high
