"""A direction in SAE features: what it is made of, the random parts it is held against, and what the table says."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.directions.block_sums import BlockSums
from personascope.directions.decompose import Groups, decomposition_table, groups_of, random_parts, write_targets
from personascope.directions.figures.decomposition import decomposition, write_decomposition
from personascope.directions.options import AxisOptions
from personascope.errors import UserError
from personascope.extraction.fit_decoder import fit_targets
from personascope.formats.decomposition import Targets
from personascope.formats.directions import Directions, save_directions
from personascope.formats.features import FeatureRows, write_features
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import json_array
from tests.extraction.test_extract import D_SAE
from tests.extraction.test_fit_decoder import D, plain
from tests.helpers.drawn import unreadable, words

ROLES, LAYERS = ["assistant", "bard", "default", "ghost"], [0, 1]
MODEL = {"model": "some/Model", "weights": "sha256:1"}
SEEN = MODEL | {"sae_layer": 1, "hook_name": "blocks.1.hook_resid_post", "d_sae": D_SAE}
GHOST = (3, 11, 20)  # the features that the ghost has and no other role


class Case:
    """Sparse features of four roles and the residual stream that they add up to; the ghost has three of its own."""

    def __init__(self, folder: Path, variants: int = 2, blocks: int = 6):
        rng, self.sae = np.random.default_rng(0), plain()
        rows = self.sae.sae.W_dec.detach().numpy()
        shape = (len(ROLES), variants, blocks, D_SAE)
        features = np.where(rng.random(shape) < 0.3, rng.random(shape), 0).astype(np.float32)
        features[ROLES.index("ghost"), :, :, GHOST] += 4
        self.features, residuals = features, features @ rows
        self.sums: dict[str, str | Path] = {}
        for role, part, stream in zip(ROLES, features, residuals, strict=True):
            self.sums[role] = folder / f"{role}.npz"
            BlockSums(
                variants=np.arange(variants),
                blocks=np.arange(blocks),
                question_ids=np.arange(blocks),
                question_blocks=np.arange(blocks),
                counts=np.full((variants, blocks), 1),
                sums=part,
                max_sums=part,
                residual_sums=np.stack([0 * stream, stream], axis=2),
                layers=np.array(LAYERS),
            ).save(self.sums[role])
        counts = np.full(len(ROLES), variants * blocks)
        self.matrix, self.residual = folder / "mean.npz", folder / "per_role.npz"
        RoleMatrix(features.mean((1, 2)), ROLES, counts).save(self.matrix)
        vectors = np.stack([0 * residuals, residuals], axis=3).mean((1, 2))
        RoleMatrix(vectors, ROLES, counts).save(self.residual, layers=np.array(LAYERS), metadata=json_array(MODEL))
        self.residuals, self.folder = residuals, folder
        empty = np.zeros(0, np.int32)
        block = FeatureRows(empty, empty, empty, np.zeros(1, np.int64), empty, np.zeros(0, "f4"), np.zeros(0, "f4"))
        write_features(folder / "ghost.parquet", [block], SEEN)

    def targets(self, name: str, file: Path, **how: Any) -> Targets:
        known = {"features": self.folder / "ghost.parquet", "matrix": self.matrix, "sums": self.sums}
        write_targets(name, file, how, options=AxisOptions(), seed=0, targets=self.folder / "t.npz", **known)
        return Targets.load(self.folder / "t.npz")


def test_groups_are_the_roles_that_a_direction_is_the_difference_of() -> None:
    groups = groups_of("axis", ROLES, AxisOptions(anchor=("assistant",)))
    assert groups == Groups(["assistant"], ["bard", "ghost"])
    assert groups is not None and groups.share == pytest.approx(1 / 3)
    assert groups_of("role:bard", ROLES, AxisOptions()) == Groups(["bard"], ["assistant", "default", "ghost"])
    assert groups_of("trait:deception", ROLES, AxisOptions()) is groups_of("theirs", ROLES, AxisOptions()) is None


def test_the_contrast_is_the_difference_of_the_groups_mean_features(tmp_path: Path) -> None:
    case = Case(tmp_path)
    targets = case.targets("role:ghost", case.residual)
    means = case.features.mean((1, 2))
    np.testing.assert_allclose(targets.contrast, means[3] - means[:3].mean(0), atol=1e-6)
    vectors = case.residuals.mean((1, 2))
    direction = vectors[3] - vectors.mean(0)
    np.testing.assert_allclose(targets.direction, direction / np.linalg.norm(direction), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(targets.random, axis=1), 1, atol=1e-5)
    assert abs(targets.random @ targets.direction).mean() < 3 / np.sqrt(D)


def test_random_parts_are_differences_within_each_role_between_parts_as_large_as_the_groups(tmp_path: Path) -> None:
    case = Case(tmp_path, variants=1, blocks=4)
    groups = Groups(["ghost"], ["bard"])  # two of four cells of each role in each part: 6 x 6 ways
    halves, contrasts = random_parts(case.sums, 1, groups, np.random.default_rng(1))
    possible, directions = [], []
    for parts in itertools.product(itertools.combinations(range(4), 2), repeat=2):
        differences: list[Any] = [0.0, 0.0]
        for role, first in zip((1, 3), parts, strict=True):
            second = [i for i in range(4) if i not in first]
            for n, cells in enumerate((case.features[role, 0], case.residuals[role, 0])):
                differences[n] = differences[n] + (cells[list(first)].mean(0) - cells[second].mean(0)) / 2
        possible.append(differences[0])
        directions.append(differences[1] / np.linalg.norm(differences[1]))
    used = set()
    for half, contrast in zip(halves, contrasts, strict=True):
        errors = np.abs(np.stack(possible) - contrast).max(1)
        used.add(int(errors.argmin()))
        assert errors.min() < 1e-5
        np.testing.assert_allclose(half, directions[errors.argmin()], atol=1e-4)
    assert len(used) > 20
    assert random_parts(case.sums, 5, groups, np.random.default_rng(1))[0].shape == (0, 0), "that layer was not kept"


def test_features_of_a_role_stand_out_over_random_parts(tmp_path: Path) -> None:
    case = Case(tmp_path)
    targets = case.targets("role:ghost", case.residual)
    table = decomposition_table(targets, fit_targets(case.sae, targets))
    for method, side in (("decoder", "along"), ("encoder", "both")):
        part = table.loc[(table["method"] == method) & (table["side"] == side)]
        assert set(part["feature"].iloc[:3]) == set(GHOST)
        third = part.iloc[2]
        assert min(third["share"] - 0.9, third["excess_halves_low"] - 0.1) > 0
        assert part["z"].iloc[:3].min() > 4
    third = table.loc[(table["method"] == "decoder") & (table["k"] == 3) & (table["side"] == "along")].iloc[0]
    assert third["excess_random"] == pytest.approx(third["share"] - third["random_median"])
    assert third["excess_random_low"] == pytest.approx(third["share"] - third["random_high"])
    whole = table.iloc[-1]
    assert (int(whole["k"]), str(whole["feature"])) == (D_SAE, "<NA>")
    assert float(whole["share"]) == pytest.approx(1, abs=1e-3)
    assert table["description"].isna().to_numpy().all()


def test_a_difference_of_nothing_but_noise_has_no_excess(tmp_path: Path) -> None:
    case = Case(tmp_path)
    parts, _ = random_parts(case.sums, 1, Groups(["bard"], ["assistant", "default"]), np.random.default_rng(9))
    found = Directions({"noise": parts[:1]}, [1], MODEL | {"kind": "imported"})
    save_directions(tmp_path / "noise.safetensors", found)
    targets = case.targets("noise", tmp_path / "noise.safetensors")
    assert len(targets.contrast) == 0 and targets.half_contrasts.shape[1] == 0
    table = decomposition_table(targets, fit_targets(case.sae, targets))
    assert set(table["method"]) == {"decoder"} and np.isnan(table["z"].to_numpy(float)).all()
    fit = fit_targets(case.sae, targets)
    fit.save(tmp_path / "fit.npz")
    files = [tmp_path / "noise.png", tmp_path / "noise.svg"]
    write_decomposition(
        tmp_path / "t.npz", tmp_path / "fit.npz", table=tmp_path / "t.csv", figures=files, name="noise", subtitle=""
    )
    assert all(file.stat().st_size > 1000 for file in files)


def test_the_figure_says_what_is_no_more_than_chance(tmp_path: Path) -> None:
    case = Case(tmp_path)
    drawn = {}
    for name in ("role:ghost", "role:bard"):
        targets = case.targets(name, case.residual)
        table = decomposition_table(targets, fit_targets(case.sae, targets, most=3))
        table["feature"] = table["feature"].astype(str).replace("<NA>", "")  # as it is read from CSV
        figure = decomposition(table, name)
        assert unreadable(figure) == []
        drawn[name] = words(figure)
    # Nothing of its own is against the ghost, and nothing along the bard: it differs from the others by not being one.
    assert [text.count("no more than random parts") for text in drawn.values()] == [1, 1]
    assert "parts of each role's responses" in drawn["role:bard"] and "isotropic" in drawn["role:bard"]


def test_a_direction_of_another_model_or_layer_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path)
    vector = np.ones((1, D), np.float32)
    for layer, changed, reason in [
        (0, {}, "nothing of layer 1; there are layers 0"),
        (1, {"model": "other/Model-2", "weights": None}, "directions of other/Model-2, not of some/Model"),
        (1, {"weights": "sha256:2"}, "other weights"),
    ]:
        found = Directions({"v": vector}, [layer], MODEL | {"kind": "imported"} | changed)
        save_directions(tmp_path / "v.safetensors", found)
        with pytest.raises(UserError, match=reason):
            case.targets("theirs", tmp_path / "v.safetensors")
