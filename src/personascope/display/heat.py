"""A signed value as one of 21 steps between orange (away from the assistant) and blue (toward it)."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex

HEAT_STEPS = 10


# Both ends are pale enough for black text (contrast above 5), and 257 colors have one in the middle: white at zero.
HEAT_MAP = LinearSegmentedColormap.from_list(
    "away_toward", ["#d9760f", "#f5ab57", "#fee0b6", "#ffffff", "#d1e5f0", "#92c5de", "#3f8fc5"], N=257
)


def heat_limit(values: np.ndarray) -> float:
    """|u| at which the color is full: the 98th percentile of |u|, so that one outlier does not pale all others."""
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.percentile(sizes, 98) or sizes.max() or 1.0) if len(sizes) else 1.0


def heat_steps(values: np.ndarray, limit: float) -> np.ndarray:
    """Steps int [n] in -HEAT_STEPS..HEAT_STEPS; rounded away from zero, so that only 0 (and NaN) is step 0, white."""
    scaled = np.clip(np.nan_to_num(values) / limit, -1, 1)
    return (np.sign(scaled) * np.ceil(np.abs(scaled) * HEAT_STEPS)).astype(int)


def step_class(step: int) -> str:
    """The class of a step in a page: p1 to p10 above zero, n1 to n10 below, z at zero."""
    return f"p{step}" if step > 0 else f"n{-step}" if step < 0 else "z"


def step_styles(scope: str) -> str:
    """The styles of the steps; in `scope` those below zero are underlined too, for eyes and printers without colors."""
    steps = range(-HEAT_STEPS, HEAT_STEPS + 1)
    below = ", ".join(f"{scope} .{step_class(step)}" for step in steps if step < 0)
    colors = "".join(f".{step_class(step)} {{ background: {heat_color(step)}; }}\n" for step in steps)
    return f"{colors}{below} {{ box-shadow: inset 0 -2px #c2570c; }}\n"


def heat_color(step: int) -> str:
    """The color of a step as #rrggbb: orange below zero, white at zero, blue above."""
    return to_hex(HEAT_MAP(0.5 + 0.5 * step / HEAT_STEPS))
