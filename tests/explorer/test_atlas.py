"""Layout, bundle and table of the atlas: by the definitions on dense arrays, readable by the original explorer."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.errors import UserError
from personascope.explorer import layout as layouts
from personascope.explorer.atlas import write_atlas
from personascope.explorer.figure import draw_atlas
from personascope.explorer.layout import LayoutOptions, cosine_neighbors, knn_overlap, lay_out, write_layout
from personascope.explorer.selection import write_selection
from personascope.formats.files import write_json
from personascope.formats.tables import load_all_npz
from tests.helpers import original_page
from tests.helpers.atlas_cases import Role, dense_stability, random_roles, role_matrix, write_roles

NAMES = ["assistant", "cook", "default", "pirate", "sailor"]
DATASET = {"name": "tiny", "aggregated_file": "agg/x/per_role.npz", "features_dir": "features/x"}
ENTRY = {
    *("feature_row", "feature_id", "preferred_role_idx", "preferred_role", "top_roles", "metrics"),
    *("description", "neuronpedia_url"),
}
COLUMNS = [
    *("feature_row", "feature_id", "preferred_role", "score", "stability", "sd", "mu", "pref_ratio", "active_frac"),
    *("cv", "mean_activation", "max_activation", "bridge_entropy", "description", "neuronpedia_url"),
]


@dataclass
class Atlas:
    """The files of one map, and what is in them."""

    folder: Path
    roles: dict[str, Role]
    centered: bool

    @classmethod
    def make(cls, folder: Path, roles: dict[str, Role], *, top_k: int = 40, **options: Any) -> "Atlas":
        made = cls(folder, roles, options.get("centered", False))
        role_matrix(roles).save(made.matrix)
        write_selection(made.matrix, write_roles(folder, roles), folder / "selection.npz", top_k=top_k, **options)
        write_layout(made.matrix, folder / "selection.npz", folder / "map.npz", folder / "layout.npz")
        made.write()
        return made

    @property
    def matrix(self) -> Path:
        return self.folder / "per_role.npz"

    def write(self, *descriptions: Path) -> None:
        names = ("selection.npz", "map.npz", "bundle.json", "features.csv")
        paths = (self.folder / name for name in names)
        write_atlas(self.matrix, *paths, dataset=DATASET, descriptions=descriptions)

    @property
    def bundle(self) -> dict[str, Any]:
        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        return json.loads((self.folder / "bundle.json").read_text(), parse_constant=refuse)

    @property
    def space(self) -> tuple[np.ndarray, np.ndarray]:
        """X and F, float64 [R, D]."""
        features = role_matrix(self.roles).features.astype(np.float64)
        return (features - features.mean(0) if self.centered else np.log1p(features)), features


@pytest.fixture(scope="module", params=[False, True], ids=["uncentered", "centered"])
def atlas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return Atlas.make(tmp_path_factory.mktemp("atlas"), random_roles(NAMES, seed=4), centered=request.param)


def test_the_bundle_has_all_that_the_original_explorer_reads(atlas: Atlas) -> None:
    bundle, n = atlas.bundle, len(atlas.bundle["feature_ids"])
    assert not original_page.unlike(bundle, original_page.BUNDLE | original_page.BUNDLE_MORE)
    dataset = bundle["dataset"]
    assert dataset | DATASET == dataset and 15 <= n <= 40
    expected = {"strategy": "mean", "question_centering": atlas.centered, "n_roles": 5, "sae_dim": 60, "top_k": 40}
    assert dataset | expected | {"random_seed": 24, "split_seed": 42} == dataset
    assert dataset["umap"] == {"n_neighbors": 15, "min_dist": 0.1, "random_state": 24, "fitted": True}
    mode = "question_centered_mean" if atlas.centered else "log1p_role_mean"
    selection = dataset["selection"]
    assert selection["role_matrix_mode"] == mode and selection["alive_count"] >= selection["pass_basic_count"] >= n
    assert bundle["roles"] == NAMES and bundle["guardrails"]["knn_overlap_at_k"] == 15 and bundle["guardrails"]["note"]
    assert all(len(row) == 2 for map_ in ("umap", "pca") for row in bundle["coords"][map_])
    assert len(bundle["coords"]["umap"]) == len(bundle["coords"]["pca"]) == len(bundle["features"]) == n
    assert all(set(entry) == ENTRY for entry in bundle["features"])
    rows = [(entry["feature_row"], entry["feature_id"]) for entry in bundle["features"]]
    assert rows == list(enumerate(bundle["feature_ids"]))


def test_every_feature_is_told_by_the_definitions(atlas: Atlas) -> None:
    x, features = atlas.space
    stability = dense_stability(atlas.roles, 42, centered=atlas.centered)
    for entry in atlas.bundle["features"]:
        i, metrics = entry["feature_id"], entry["metrics"]
        v = np.clip(x[:, i], 0, None) if atlas.centered else x[:, i]
        share, sd, mu = v / v.sum(), x[:, i].std(), x[:, i].mean()
        order = sorted(range(5), key=lambda r: (-x[r, i], r))
        assert entry["preferred_role_idx"] == order[0] and entry["preferred_role"] == NAMES[order[0]]
        assert [top["role_idx"] for top in entry["top_roles"]] == order[:3]
        for top in entry["top_roles"]:
            assert top["role"] == NAMES[top["role_idx"]]
            assert top["activation"] == pytest.approx(v[top["role_idx"]], rel=1e-5, abs=1e-9)
            assert top["share"] == pytest.approx(share[top["role_idx"]], rel=1e-5, abs=1e-9)
        positive = share[share > 0]
        expected = {
            "stability": stability[i],
            "score": stability[i] * sd,
            "sd": sd,
            "mu": mu,
            "active_frac": (x[:, i] > 0).mean(),
            "mean_activation": features[:, i].mean(),
            "max_activation": features[:, i].max(),
            "bridge_entropy": -(positive * np.log(positive)).sum() / np.log(5),
        }
        for name, value in expected.items():
            assert metrics[name] == pytest.approx(value, rel=2e-4, abs=2e-5), name
        if atlas.centered:
            assert metrics["pref_ratio"] is None and metrics["cv"] is None
        else:
            top1, top2 = sorted(v)[:-3:-1]
            assert metrics["pref_ratio"] == pytest.approx(top1 / max(top2, 1e-8), rel=1e-5)
            assert metrics["cv"] == pytest.approx(sd / max(abs(mu), 1e-8), rel=1e-5)
        assert entry["description"] is None and entry["neuronpedia_url"] is None


def dense_cosines(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1)
    return rows @ rows.T / np.outer(norms, norms)


def test_neighbors_and_roles_are_cosines_of_profiles(atlas: Atlas) -> None:
    bundle, (x, _) = atlas.bundle, atlas.space
    profiles = x[:, bundle["feature_ids"]].T
    n, k = len(profiles), bundle["neighbors"]["k"]
    cosines = dense_cosines(profiles)
    assert k == min(20, n - 1)
    for row, (indices, similar) in enumerate(
        zip(bundle["neighbors"]["indices"], bundle["neighbors"]["similarities"], strict=True)
    ):
        others = [i for i in range(n) if i != row]
        assert row not in indices and len(set(indices)) == len(indices) == k
        np.testing.assert_allclose(similar, cosines[row, indices], atol=2e-6)
        np.testing.assert_allclose(similar, sorted(cosines[row, others], reverse=True)[:k], atol=2e-6)
    np.testing.assert_allclose(bundle["role_similarity"], dense_cosines(profiles.T), atol=2e-6)
    shown = np.array(bundle["coords"]["umap"])
    kept = []
    for row in range(n):
        near = sorted(range(n), key=lambda i: (i == row, ((shown[i] - shown[row]) ** 2).sum()))[: min(15, n - 1)]
        kept.append(np.isin(bundle["neighbors"]["indices"][row][:15], near).mean())
    assert bundle["guardrails"]["knn_overlap_score"] == pytest.approx(np.mean(kept), abs=0.02)


def test_pca_is_that_of_the_profiles(atlas: Atlas) -> None:
    bundle, (x, _) = atlas.bundle, atlas.space
    profiles = x[:, bundle["feature_ids"]].T
    left, singular, _ = np.linalg.svd(profiles - profiles.mean(0), full_matrices=False)
    found, expected = np.array(bundle["coords"]["pca"]), left[:, :2] * singular[:2]
    sign = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found, expected * sign, atol=1e-4)


def test_the_table_is_the_bundle_flat(atlas: Atlas) -> None:
    with (atlas.folder / "features.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS and len(rows) == len(atlas.bundle["features"])
    for row, entry in zip(rows, atlas.bundle["features"], strict=True):
        assert int(row["feature_id"]) == entry["feature_id"] and row["preferred_role"] == entry["preferred_role"]
        for name, value in entry["metrics"].items():
            assert row[name] == "" if value is None else float(row[name]) == value
        assert row["description"] == row["neuronpedia_url"] == ""


def test_the_layout_of_everything_has_every_living_feature(atlas: Atlas) -> None:
    arrays, (x, features) = load_all_npz(atlas.folder / "layout.npz"), atlas.space
    ids = arrays["feature_ids"]
    alive = (x != 0).any(0) if atlas.centered else x.mean(0) > 0
    assert np.array_equal(ids, np.flatnonzero(alive)) and len(ids) > len(atlas.bundle["feature_ids"])
    n = len(ids)
    assert arrays["umap"].shape == arrays["pca"].shape == (n, 2) and arrays["neighbors"].shape == (n, 20)
    assert sorted(ids[arrays["selected"]]) == sorted(atlas.bundle["feature_ids"])
    assert np.array_equal(arrays["preferred_role"], x[:, ids].argmax(0))
    np.testing.assert_allclose(arrays["mean_activation"], features[:, ids].mean(0), rtol=1e-5)
    cosines = dense_cosines(x[:, ids].T)
    np.testing.assert_allclose(arrays["similarities"], np.take_along_axis(cosines, arrays["neighbors"], 1), atol=2e-6)
    assert arrays["role_names"].tolist() == NAMES and bool(arrays["centered"]) == atlas.centered
    assert np.isnan(arrays["cv"]).all() == atlas.centered


def test_descriptions_change_the_bundle_and_nothing_else(atlas: Atlas, tmp_path: Path) -> None:
    before, kept = atlas.bundle, (atlas.folder / "map.npz").read_bytes()
    first, second, third = before["feature_ids"][:3]
    link = f"https://neuronpedia.org/gemma-2-2b/20-res-16k/{first}"
    cache = tmp_path / "cache.json"
    write_json(cache, {str(first): {"description": 'ships, "sails"\nand oars', "url": link}, str(second): "cakes"})
    atlas.write(cache)
    after = atlas.bundle
    with (atlas.folder / "features.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    atlas.write()
    assert (after["features"][0]["description"], after["features"][0]["neuronpedia_url"]) == (
        'ships, "sails"\nand oars',
        link,
    )
    assert rows[0]["description"] == after["features"][0]["description"] and rows[1]["description"] == "cakes"
    assert after["features"][1]["neuronpedia_url"] is None and after["features"][2]["description"] is None
    assert after["features"][2]["feature_id"] == third and after["coords"] == before["coords"]
    assert atlas.bundle == before and (atlas.folder / "map.npz").read_bytes() == kept


def test_a_damaged_file_is_named(atlas: Atlas, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("[{")
    with pytest.raises(UserError, match=r"broken\.json: not valid JSON"):
        atlas.write(broken)
    (tmp_path / "map.npz").write_bytes(b"PK")
    paths = (atlas.folder / "selection.npz", tmp_path / "map.npz", tmp_path / "b.json", tmp_path / "f.csv")
    with pytest.raises(UserError, match=r"map\.npz: not a readable"):
        write_atlas(atlas.matrix, *paths, dataset=DATASET)
    assert not (tmp_path / "b.json").exists()


def trimmed(roles: dict[str, Role], width: int) -> dict[str, Role]:
    return {name: Role(r.keys, r.n_tokens, r.mean[:, :width], r.max[:, :width]) for name, r in roles.items()}


@pytest.mark.parametrize(
    ("names", "width"), [(["a"], 60), (["a", "b"], 60), (NAMES, 12), (NAMES, 1), (["a"], 1)], ids=str
)
@pytest.mark.parametrize("centered", [False, True])
def test_few_roles_or_features_have_no_umap(tmp_path: Path, names: Sequence[str], width: int, centered: bool) -> None:
    made = Atlas.make(tmp_path, trimmed(random_roles(list(names), seed=6), width), centered=centered)
    bundle = made.bundle
    n = len(bundle["features"])
    passing = bundle["dataset"]["selection"]["pass_basic_count"]
    assert n == min(passing, 40) and (n > 0 or centered or width == 1)
    assert bundle["dataset"]["umap"]["fitted"] is False and "PCA" in bundle["guardrails"]["note"]
    assert bundle["coords"]["umap"] == bundle["coords"]["pca"] and len(bundle["coords"]["pca"]) == n
    assert bundle["neighbors"]["k"] == max(min(20, n - 1), 0)
    assert all(math.isfinite(value) for row in bundle["coords"]["pca"] for value in row)
    assert load_all_npz(tmp_path / "layout.npz")["umap"].shape == (0, 2)
    draw_atlas(tmp_path / "layout.npz", [tmp_path / "atlas.png", tmp_path / "atlas.svg"])


def test_features_at_one_place_are_not_their_own_neighbors() -> None:
    x = np.repeat(np.eye(3, dtype=np.float32), 40, axis=0)
    neighbors, similarities = cosine_neighbors(x, 20)
    rows = np.arange(120)[:, None]
    assert (neighbors != rows).all() and (neighbors // 40 == rows // 40).all() and (similarities == 1).all()
    assert np.array_equal(neighbors, np.sort(neighbors, 1)) and knn_overlap(neighbors, x[:, :2]) > 0


@pytest.mark.parametrize("many", [10, 10**6], ids=["neighbors given", "neighbors found"])
def test_the_same_seed_makes_the_same_map_and_groups_stay_together(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(layouts, "MANY", many)
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 25)
    x = (np.eye(4)[group] + rng.random((100, 4)) * 0.3).astype(np.float32)
    first, again = (lay_out(x, LayoutOptions()) for _ in range(2))
    assert np.array_equal(first.umap, again.umap) and first.knn_overlap > 0.5
    near = ((first.umap[:, None] - first.umap) ** 2).sum(2) + np.eye(100) * 1e9
    assert (group[near.argmin(1)] == group).mean() > 0.98
    assert not np.array_equal(lay_out(x, LayoutOptions(seed=1)).umap, first.umap)
