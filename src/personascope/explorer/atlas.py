"""The atlas: selected features, their places, neighbors and roles as `bundle.json` and `features.csv`.

The original explorer opens them; what they are made from is in `selection` and `layout`, so that new descriptions only
write these two anew.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personascope.explorer.layout import QUALITY, Layout, load_layout
from personascope.explorer.metrics import METRICS, metrics_of, shares
from personascope.explorer.selection import Selection, role_space
from personascope.formats.descriptions import described
from personascope.formats.files import write_text
from personascope.formats.role_matrix import RoleMatrix, load_role_matrix
from personascope.formats.tables import load_metadata, load_npz, write_csv

TOP_ROLES = 3
OF_SELECTION = ("score", "stability", "sd", "mu")
DIGITS = 6  # significant ones: activations of an SAE may all be small
NOTE = "The map is for finding one's way; neighbors and similarities are cosines over all roles, not distances on it."
NO_UMAP = " There are too few roles or features for UMAP: the map is that of PCA."


def atlas_bundle(
    matrix: RoleMatrix,
    chosen: Selection,
    layout: Layout,
    role_similarity: np.ndarray,
    dataset: Mapping[str, Any],
    descriptions: Mapping[int, Mapping[str, str | None]],
) -> dict[str, Any]:
    """`bundle.json` of the selected features, in JSON's own types.

    dataset: name, aggregated_file, features_dir, random_seed and umap (its options), which the bundle repeats.
    """
    x = role_space(matrix.features, chosen.options.centered)
    ids = chosen.selected
    k = layout.neighbors.shape[1]
    fitted = len(layout.umap) > 0
    return {
        "dataset": _dataset(matrix, chosen, dataset, fitted),
        "guardrails": {
            "note": NOTE if fitted else NOTE + NO_UMAP,
            "knn_overlap_at_k": QUALITY,
            "knn_overlap_score": number(layout.knn_overlap),
        },
        "roles": list(matrix.role_names),
        "feature_ids": ids.tolist(),
        # A client that asks for UMAP gets the map that there is.
        "coords": {"umap": _rounded(layout.shown), "pca": _rounded(layout.pca)},
        "neighbors": {
            "k": k,
            "indices": layout.neighbors.tolist(),
            "similarities": _rounded(layout.similarities),
        },
        "role_similarity": _rounded(role_similarity),
        "features": _features(matrix, chosen, x, descriptions),
    }


def _dataset(matrix: RoleMatrix, chosen: Selection, dataset: Mapping[str, Any], fitted: bool) -> dict[str, Any]:
    options = chosen.options
    return {
        "name": dataset["name"],
        "aggregated_file": dataset["aggregated_file"],
        "features_dir": dataset["features_dir"],
        "strategy": options.pooling,
        "question_centering": options.centered,
        "n_roles": len(matrix.role_names),
        "sae_dim": matrix.features.shape[1],
        "top_k": options.top_k,
        "random_seed": dataset["random_seed"],
        "split_seed": options.split_seed,
        "umap": {**dataset["umap"], "fitted": fitted},
        "selection": {
            "alive_count": int(chosen.alive.sum()),
            "pass_basic_count": int(chosen.passing.sum()),
            "selected_count": len(chosen.selected),
            "sd_threshold": number(chosen.sd_threshold),
            "role_matrix_mode": "question_centered_mean" if options.centered else "log1p_role_mean",
        },
    }


def _features(
    matrix: RoleMatrix, chosen: Selection, x: np.ndarray, descriptions: Mapping[int, Mapping[str, str | None]]
) -> list[dict[str, Any]]:
    """An entry a selected feature: its largest roles, metrics and description."""
    ids, names = chosen.selected, matrix.role_names
    profiles = x[:, ids]
    # The values that the shares are of: deviations below the mean are no part of a feature's profile.
    values, share = np.maximum(profiles, 0), shares(profiles)
    order = np.argsort(-profiles, axis=0, kind="stable")[:TOP_ROLES]
    metrics = {name: getattr(chosen, name)[ids] for name in OF_SELECTION}
    metrics |= metrics_of(x, matrix.features, ids, chosen.options.centered)
    entries = []
    for row, feature in enumerate(ids.tolist()):
        known = descriptions.get(feature, {})
        top = [
            {
                "role_idx": role,
                "role": names[role],
                "activation": number(values[role, row]),
                "share": number(share[role, row]),
            }
            for role in order[:, row].tolist()
        ]
        entries.append(
            {
                "feature_row": row,
                "feature_id": feature,
                "preferred_role_idx": top[0]["role_idx"],
                "preferred_role": top[0]["role"],
                "top_roles": top,
                "metrics": {name: number(metrics[name][row]) for name in (*OF_SELECTION, *METRICS)},
                "description": known.get("description"),
                "neuronpedia_url": known.get("url"),
            }
        )
    return entries


def features_table(bundle: Mapping[str, Any]) -> pd.DataFrame:
    """`features.csv`: a row a feature of the bundle."""
    before, behind = ["feature_row", "feature_id", "preferred_role"], ["description", "neuronpedia_url"]
    columns = [*before, *OF_SELECTION, *METRICS, *behind]
    rows = [{**entry, **entry["metrics"]} for entry in bundle["features"]]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def number(value: float) -> float | None:
    """A number to DIGITS significant digits; None for NaN and infinities."""
    value = float(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _rounded(values: np.ndarray) -> list[Any]:
    return [[number(value) for value in row] for row in values.tolist()]


def write_atlas(
    matrix: str | Path,
    selection: str | Path,
    layout: str | Path,
    bundle: str | Path,
    table: str | Path,
    *,
    dataset: Mapping[str, Any],
    descriptions: Sequence[str | Path] = (),
) -> None:
    """Write bundle.json and features.csv from a role matrix, the selection and the layout of what is selected.

    descriptions: the file of what features are called, where there is one. UserError where one of the files is damaged.
    """
    places, (similarity,) = load_layout(layout), load_npz(layout, "role_similarity")
    umap = load_metadata(layout)["umap"]
    known = described(descriptions)
    named = {
        **dataset,
        "random_seed": umap["seed"],
        "umap": {"n_neighbors": umap["n_neighbors"], "min_dist": umap["min_dist"], "random_state": umap["seed"]},
    }
    made = atlas_bundle(load_role_matrix(matrix), Selection.load(selection), places, similarity, named, known)
    write_text(bundle, json.dumps(made, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")
    write_csv(table, features_table(made))
