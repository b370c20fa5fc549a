"""Tables of the axis stage as they are of a real experiment, simulated, for the figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from personascope.directions.spaces import axis_spaces

ROLES = Path(__file__).parents[2] / "resources" / "roles"
WIDTH = 120


def role_names(count: int) -> list[str]:
    """`count` names, sorted: the project's own roles, then made-up ones of up to 24 characters."""
    own = sorted(file.stem for file in ROLES.glob("*.json"))
    own.sort(key=lambda name: name not in ("assistant", "default"))
    made = [
        f"{word}_{name}"[:24] for word in ("retired", "apprentice", "world-weary", "self-taught", "old") for name in own
    ]
    return sorted(list(dict.fromkeys([*own, *made]))[:count])


def simulated_tables(
    names: Sequence[str],
    layers: Sequence[int] = (3, 15, 27),
    *,
    anchors: Sequence[str] = ("assistant", "default"),
    noise: float = 0.35,
    refused: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """{table: its rows} with an axis, six more directions of roles, and noise; `refused`: spaces not to interpret."""
    rng = np.random.default_rng(seed)
    n = len(names)
    kinds = ["anchor" if name in anchors else "default" if name == "default" else "other" for name in names]
    anchor = np.array([kind == "anchor" for kind in kinds])
    assistant = np.array([kind != "other" for kind in kinds])
    position = np.where(assistant, 2.4 + 0.3 * rng.standard_normal(n), rng.gumbel(-0.3, 0.5, n))
    groups = rng.integers(0, 7, n)
    latent = np.column_stack([1.6 * position, np.eye(7)[groups] * 1.3 + 0.35 * rng.standard_normal((n, 7))])
    parts: dict[str, list[pd.DataFrame]] = {"agreement": [], "role_projections": [], "pca_spectrum": []}
    parts["role_similarity"] = []
    for k, space in enumerate(axis_spaces(layers)):
        scale = 1.0 if space == "sae" else 4.0 + 3 * k
        clean = latent @ rng.standard_normal((latent.shape[1], WIDTH)) / np.sqrt(WIDTH)
        vectors = scale * (clean + noise * rng.standard_normal(clean.shape))
        for table, rows in _one_space(vectors, list(names), kinds, anchor, rng).items():
            parts[table].append(rows.assign(space=space))
        low = space in refused
        parts["agreement"][-1] = parts["agreement"][-1].assign(
            split_half=0.31 if low else 0.86 - 0.3 * np.exp(-k),
            interpretable=not low,
            reason="split-half 0.31 < 0.5" if low else "",
        )
    return {table: pd.concat(rows, ignore_index=True) for table, rows in parts.items()}


def _one_space(
    vectors: np.ndarray, names: list[str], kinds: list[str], anchor: np.ndarray, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    others = np.array([kind == "other" for kind in kinds])
    centered = vectors - vectors.mean(0)
    diff = vectors[anchor].mean(0) - vectors[others].mean(0)
    diff /= np.linalg.norm(diff)
    _, singular, components = np.linalg.svd(centered, full_matrices=False)
    pc1 = components[0] * np.sign(components[0] @ diff)
    shares = singular[: min(len(names) - 1, WIDTH)] ** 2 / (singular**2).sum()
    shuffled = np.stack([_shares(rng, len(names)) for _ in range(10)])[:, : len(shares)]
    inside, scale = centered @ diff, (centered @ diff).std()
    crossfit = 0.8 * (inside - inside[others].mean()) + 0.04 * scale * rng.standard_normal(len(names))
    half = 0.2 * scale * rng.uniform(0.7, 1.5, len(names))
    units = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    agreement = {
        "space": "",
        "cos_diff_pc1": float(diff @ pc1),
        "agreement_null_median": 0.7 / np.sqrt(len(names) - 1),
        "agreement_null_high": 2 / np.sqrt(len(names) - 1),
        "split_half": 0.8,
        "split_half_of": "questions and variants",
        "auc": float(0.97 - 0.1 * rng.random()),
        "pc1_variance_share": float(shares[0]),
        "n_roles": len(names),
        "n_responses": 60 * len(names),
        "interpretable": True,
        "reason": "",
    }
    projections = {
        "space": "",
        "role": names,
        "kind": kinds,
        "diff": inside,
        "pc1": centered @ pc1,
        "crossfit": crossfit,
        "crossfit_low": crossfit - half,
        "crossfit_high": crossfit + half,
        "n_responses": 60,
    }
    spectrum = {
        "space": "",
        "component": np.arange(1, len(shares) + 1),
        "variance_share": shares,
        "cumulative": np.cumsum(shares),
        "shuffled_share": shuffled.mean(0),
        "shuffled_high": np.percentile(shuffled, 95, axis=0),
    }
    similarity = pd.DataFrame(units @ units.T, columns=pd.Index(names))
    similarity.insert(0, "role", names)
    return {
        "agreement": pd.DataFrame([agreement]),
        "role_projections": pd.DataFrame(projections),
        "pca_spectrum": pd.DataFrame(spectrum),
        "role_similarity": similarity,
    }


def _shares(rng: np.random.Generator, n: int) -> np.ndarray:
    """Spectrum of pure noise whose dimensions have unequal variances."""
    noise = rng.standard_normal((n, WIDTH)) * np.linspace(1.6, 0.4, WIDTH)
    squares = np.linalg.svd(noise - noise.mean(0), compute_uv=False) ** 2
    return squares / squares.sum()
