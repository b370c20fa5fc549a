"""Where features lie: their neighbors by the cosine of their profiles over roles, and two maps of the plane.

UMAP (McInnes et al. 2018, arXiv 1802.03426) keeps neighborhoods, PCA distances. Neighbors are exact, also those that
UMAP starts from.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.directions.axis import unit
from personascope.errors import UserError
from personascope.explorer.metrics import metrics_of
from personascope.explorer.selection import Selection, role_space
from personascope.formats.role_matrix import RoleMatrix, load_role_matrix
from personascope.formats.tables import json_array, load_npz, save_npz

NEIGHBORS, QUALITY = 20, 15  # listed; and of which the share that the map keeps is told
LEAST_ROLES, LEAST_FEATURES = 3, 15  # for UMAP: with fewer there are no neighborhoods to keep
# From here on UMAP is given the neighbors, since its own search would be approximate; below it is exact too.
MANY = 4096
BLOCK = 2048  # profiles whose similarities are in float64 at a time


@dataclass(frozen=True)
class LayoutOptions:
    """Of UMAP; the seed is PCA's too."""

    n_neighbors: int = 15
    min_dist: float = 0.1
    seed: int = 24


@dataclass(frozen=True)
class Layout:
    """n features in the plane.

    umap, pca: float32 [n, 2], umap [0, 2] where there are too few roles or features; neighbors int32 [n, k]: rows of
    the most similar others, k = 20 or n - 1; similarities float32 [n, k]: their cosines, descending; knn_overlap: the
    mean share of a feature's 15 nearest that are also its nearest on the map (UMAP's, else PCA's).
    """

    umap: np.ndarray
    pca: np.ndarray
    neighbors: np.ndarray
    similarities: np.ndarray
    knn_overlap: float

    @property
    def shown(self) -> np.ndarray:
        """The map to look at, float32 [n, 2]: UMAP's, else PCA's."""
        return self.umap if len(self.umap) else self.pca

    def arrays(self) -> dict[str, np.ndarray]:
        """For an .npz."""
        return {**vars(self), "knn_overlap": np.array(self.knn_overlap)}


def load_layout(path: str | Path) -> Layout:
    """A layout of `write_layout`; UserError where the file is none."""
    umap, pca, neighbors, similarities, overlap = load_npz(path, *Layout.__annotations__)
    return Layout(umap, pca, neighbors, similarities, float(overlap))


def lay_out(x: np.ndarray, options: LayoutOptions) -> Layout:
    """Features with the profiles x float32 [n, R] in the plane."""
    n, roles = x.shape
    found = cosine_neighbors(x, max(NEIGHBORS, options.n_neighbors - 1))
    neighbors, similarities = (part[:, :NEIGHBORS] for part in found)
    pca = _pca(x, options.seed)
    umap = np.empty((0, 2), np.float32)
    if roles >= LEAST_ROLES and n >= LEAST_FEATURES:
        umap = _umap(x, *found, options)
    return Layout(umap, pca, neighbors, similarities, knn_overlap(neighbors, umap if len(umap) else pca))


def cosine_neighbors(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """For each row of x [n, R] the rows int32 [n, k] with the largest cosine to it and these float32 [n, k], itself
    left out; k is at most n - 1. Descending, ties by row."""
    n = len(x)
    k = min(k, n - 1)
    if k < 1:
        return np.empty((n, 0), np.int32), np.empty((n, 0), np.float32)
    # On unit vectors the nearest are the most similar; scikit-learn finds them without a matrix of all distances.
    rows = unit(np.asarray(x, np.float64))
    found = _nearest(rows.astype(np.float32), k)
    similarities = np.empty(found.shape, np.float32)
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        cosines = np.einsum("nd,nkd->nk", rows[part], rows[found[part]])
        order = np.lexsort((found[part], -cosines.round(7)))
        found[part] = np.take_along_axis(found[part], order, 1)
        similarities[part] = np.take_along_axis(cosines, order, 1)
    return found, similarities


def _nearest(points: np.ndarray, k: int) -> np.ndarray:
    """Rows int32 [n, k] of the nearest other points, the nearest first."""
    from sklearn.neighbors import NearestNeighbors

    method = "brute" if points.shape[1] > 3 else "auto"
    finder = NearestNeighbors(n_neighbors=k + 1, algorithm=method).fit(points)
    found = finder.kneighbors(points, return_distance=False)
    # Among points at one place a point itself need not come first, or at all: then the last is dropped in its stead.
    itself = found == np.arange(len(points))[:, None]
    itself[~itself.any(1), -1] = True
    return found[~itself].reshape(len(points), k).astype(np.int32)


def knn_overlap(neighbors: np.ndarray, shown: np.ndarray) -> float:
    """Mean over features of the share of their 15 (or n - 1) nearest by cosine that are among as many nearest on the
    map [n, 2]; 0 where there are no neighbors. neighbors: of `cosine_neighbors`."""
    k = min(QUALITY, neighbors.shape[1])
    if k < 1:
        return 0.0
    near = _nearest(shown, k)
    kept = (neighbors[:, :k, None] == near[:, None, :]).any(2)
    return float(kept.mean())


def _pca(x: np.ndarray, seed: int) -> np.ndarray:
    """The first two components, float32 [n, 2]; 0 where there are fewer."""
    from sklearn.decomposition import PCA

    out = np.zeros((len(x), 2), np.float32)
    count = min(2, *x.shape)
    if len(x) > 1:
        out[:, :count] = PCA(count, random_state=seed).fit_transform(x)
    return out


def _umap(x: np.ndarray, neighbors: np.ndarray, similarities: np.ndarray, options: LayoutOptions) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError:
        raise UserError("the map of features needs umap-learn: pip install 'personascope[atlas]'") from None
    n = len(x)
    count = min(options.n_neighbors, n - 1)
    given: dict[str, Any] = {}
    if n >= MANY:
        # UMAP counts a point among its own neighbors.
        near = np.column_stack([np.arange(n, dtype=np.int32), neighbors[:, : count - 1]])
        far = np.maximum(1 - similarities[:, : count - 1], 0)
        given["precomputed_knn"] = (near, np.column_stack([np.zeros(n, np.float32), far]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that neighbors given leave no way to place further features
        model = UMAP(
            n_components=2,
            metric="cosine",
            n_neighbors=count,
            min_dist=options.min_dist,
            random_state=options.seed,
            n_jobs=1,
            **given,
        )
        return np.asarray(model.fit_transform(x), np.float32)


def role_similarity(x: np.ndarray) -> np.ndarray:
    """Cosines of the rows of x [R, n], float32 [R, R]; 0 beside a row of zeros."""
    rows = unit(np.asarray(x, np.float64))
    return (rows @ rows.T).astype(np.float32)


def write_layout(
    matrix: str | Path, selection: str | Path, selected: str | Path, everything: str | Path, **options: Any
) -> None:
    """Lay out the selected features, for the bundle, and all that are alive, each to an .npz.

    Both have the arrays of `Layout`, `feature_ids` int32 [n] (a row of a neighbor is a row of it), `role_names`,
    `role_similarity` float32 [R, R], the cosines of the roles in the selected features, and `centered`. The second has
    also what is known of each feature, float32 [n]: score, stability, sd, mu and `metrics.METRICS`; `preferred_role`
    int16 [n], the role of its largest value; `selected`, bool [n]. options: of `LayoutOptions`.
    """
    roles, chosen, how = load_role_matrix(matrix), Selection.load(selection), LayoutOptions(**options)
    x = role_space(roles.features, chosen.options.centered)
    common = {
        "role_names": np.array(roles.role_names, np.str_),
        "role_similarity": role_similarity(x[:, chosen.selected]),
        "centered": np.array(chosen.options.centered),
        "metadata": json_array({"umap": vars(how)}),
    }
    alive = np.flatnonzero(chosen.alive).astype(np.int32)
    for path, ids, known in (
        (selected, chosen.selected, {}),
        (everything, alive, _known(roles, chosen, x, alive)),
    ):
        found = lay_out(np.ascontiguousarray(x[:, ids].T, np.float32), how)
        save_npz(path, feature_ids=ids, **found.arrays(), **known, **common)


def _known(roles: RoleMatrix, chosen: Selection, x: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    numbers = {name: getattr(chosen, name)[ids] for name in ("score", "stability", "sd", "mu")}
    numbers |= metrics_of(x, roles.features, ids, chosen.options.centered)
    known = {name: values.astype(np.float32) for name, values in numbers.items()}
    known["preferred_role"] = x[:, ids].argmax(0).astype(np.int16)
    return known | {"selected": np.isin(ids, chosen.selected)}
