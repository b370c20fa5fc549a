"""Persona vectors: what is written is the roles' means, and what the tables say of them follows from the responses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from personascope.directions.block_sums import BlockSums
from personascope.directions.figures.personas import draw_persona_figures, persona_components, persona_cosines
from personascope.directions.persona_vectors import principal_axes, write_persona_vectors
from personascope.errors import UserError
from personascope.formats.directions import load_directions, save_pt
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import json_array, read_csv
from tests.helpers.drawn import unreadable, words

ROLES, LAYERS, VARIANTS, QUESTIONS, D = ["bard", "default", "ghost", "oracle"], [2, 5, 9], 3, 8, 11
METADATA = {"model": "some/Model", "weights": "sha256:1", "layer_convention": "x", "token_selection": "response_only"}


class Case:
    """Responses [role, variant, question, layer, d] of roles with means of their own, as earlier stages write them."""

    def __init__(self, folder: Path, variants: int = VARIANTS, noise: float = 1.0):
        rng = np.random.default_rng(5)
        means = rng.normal(size=(len(ROLES), 1, 1, len(LAYERS), D)) + 20
        shape = (len(ROLES), variants, QUESTIONS, len(LAYERS), D)
        self.responses = (means + noise * rng.normal(size=shape)).astype(np.float32)
        self.folder, self.matrix = folder, folder / "per_role.npz"
        mean = self.responses.mean((1, 2))
        counts = np.full(len(ROLES), variants * QUESTIONS)
        RoleMatrix(mean, ROLES, counts).save(self.matrix, layers=np.array(LAYERS), metadata=json_array(METADATA))
        self.sums: dict[str, str | Path] = {}
        for role, rows in zip(ROLES, self.responses, strict=True):
            self.sums[role] = folder / f"{role}.npz"
            empty = np.empty((variants, 4, 0), np.float32)
            BlockSums(
                variants=np.arange(variants),
                blocks=np.arange(4),
                question_ids=np.arange(QUESTIONS),
                question_blocks=np.arange(QUESTIONS) % 4,
                counts=np.full((variants, 4), 2),
                sums=empty,
                max_sums=empty,
                residual_sums=rows[:, :4] + rows[:, 4:],
                layers=np.array(LAYERS),
            ).save(self.sums[role])

    def write(self, layers: list[int]) -> dict[str, pd.DataFrame]:
        tables = {name: self.folder / f"{name}.csv" for name in ("cosine", "pca", "roles")}
        write_persona_vectors(self.matrix, self.sums, layers, vectors=self.folder / "v.safetensors", **tables)
        return {name: read_csv(path) for name, path in tables.items()}


def test_the_vectors_are_the_means_of_the_responses_and_also_plain_tensors(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.write([9, 2])
    found = load_directions(tmp_path / "v.safetensors")
    assert found.metadata["n_responses"] == dict.fromkeys(ROLES, VARIANTS * QUESTIONS)
    for i, role in enumerate(ROLES):
        for layer in (9, 2):
            expected = case.responses[i, :, :, LAYERS.index(layer)].reshape(-1, D).mean(0)
            np.testing.assert_allclose(found.at(role, layer), expected, rtol=1e-5)
    save_pt(tmp_path / "v.pt", found)
    tensors = torch.load(tmp_path / "v.pt", weights_only=True)
    assert tensors["ghost"].dtype == torch.float32 and tensors["ghost"].shape == (2, D)
    np.testing.assert_array_equal(tensors["ghost"].numpy(), found.vectors["ghost"])
    case.write([5])
    save_pt(tmp_path / "v.pt", load_directions(tmp_path / "v.safetensors"))
    assert torch.load(tmp_path / "v.pt", weights_only=True)["ghost"].shape == (D,)


def test_cosines_are_given_with_and_without_the_mean_role(tmp_path: Path) -> None:
    case = Case(tmp_path)
    cosine = case.write([5])["cosine"]
    vectors = case.responses[:, :, :, 1].mean((1, 2), dtype=np.float64)
    for space, rows in (("residual layer 5", vectors - vectors.mean(0)), ("residual layer 5, raw", vectors)):
        part = cosine.loc[cosine["space"] == space].set_index("role")
        for a, one in zip(ROLES, rows, strict=True):
            for b, other in zip(ROLES, rows, strict=True):
                expected = one @ other / np.sqrt((one @ one) * (other @ other))
                assert float(part.loc[a, b]) == pytest.approx(expected, abs=1e-5)


def test_components_are_those_of_the_covariance(tmp_path: Path) -> None:
    case = Case(tmp_path)
    pca = case.write([2])["pca"].astype({"component": int, "variance_share": float, "coordinate": float})
    vectors = case.responses[:, :, :, 0].mean((1, 2), dtype=np.float64)
    values, axes = np.linalg.eigh(np.cov(vectors.T))
    assert max(pca["component"]) == 3, "four roles span three dimensions"
    for k in (1, 2, 3):
        part = pca.loc[pca["component"] == k]
        assert part["variance_share"].iloc[0] == pytest.approx(values[-k] / values.sum(), rel=1e-4)
        along = (vectors - vectors.mean(0)) @ axes[:, -k]
        along *= np.sign(along[np.abs(along).argmax()])
        np.testing.assert_allclose(part["coordinate"], along, atol=1e-4)


def test_quarters_share_neither_variant_nor_question_with_their_neighbor(tmp_path: Path) -> None:
    case = Case(tmp_path)
    tables = case.write([2])
    vectors = case.responses[:, :, :, 0].mean((1, 2), dtype=np.float64)
    components, _ = principal_axes(vectors - vectors.mean(0))
    first = tables["pca"].astype({"component": int}).query("component == 1")
    agreement = np.zeros(len(ROLES))
    halves = [(slice(0, None, 2), slice(0, None, 2)), (slice(1, None, 2), slice(1, None, 2))]
    halves += [(slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))]
    means = [case.responses[:, v, q, 0].mean((1, 2), dtype=np.float64) for v, q in halves]
    for number, mean in enumerate(means, start=1):
        expected = (mean - vectors.mean(0)) @ components[0]
        np.testing.assert_allclose(first[f"part_{number}"].astype(float), expected, atol=1e-4)
    for a, b in ((0, 1), (2, 3)):
        one, other = means[a] - means[a].mean(0), means[b] - means[b].mean(0)
        agreement += (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1) / 2
    np.testing.assert_allclose(tables["roles"]["split_half"].astype(float), agreement, atol=1e-4)


def test_one_variant_has_halves_of_its_questions(tmp_path: Path) -> None:
    tables = Case(tmp_path, variants=1).write([2])
    assert [name for name in tables["pca"] if name.startswith("part_")] == ["part_1", "part_2"]
    assert np.isfinite(tables["roles"]["split_half"].astype(float)).all()


def test_what_the_matrix_lacks_is_named(tmp_path: Path) -> None:
    case = Case(tmp_path)
    with pytest.raises(UserError, match=r"nothing of layer 3; there are layers \[2, 5, 9\]"):
        case.write([2, 3])
    RoleMatrix(np.ones((4, 3, D), np.float32), ROLES, np.ones(4)).save(case.matrix, layers=np.array(LAYERS))
    with pytest.raises(UserError, match="of which model; aggregate again"):
        case.write([2])


def test_figures_say_what_is_raw_and_what_is_noise(tmp_path: Path) -> None:
    clear = Case(tmp_path).write(LAYERS)
    figure = persona_cosines(clear["cosine"])
    assert "raw" in words(figure) and "without the mean role" in words(figure) and unreadable(figure) == []
    figure = persona_components(clear["pca"], clear["roles"])
    assert all(role in words(figure) for role in ROLES) and unreadable(figure) == []
    assert "do not agree" not in words(figure)
    noisy = Case(tmp_path, noise=30).write([2])
    assert "do not agree" in words(persona_components(noisy["pca"], noisy["roles"]))
    files = [tmp_path / f"{name}.{kind}" for name in ("cosine", "pca") for kind in ("png", "svg")]
    cosine, pca, roles = (tmp_path / f"{name}.csv" for name in ("cosine", "pca", "roles"))
    draw_persona_figures(cosine, pca, roles, files)
    assert all(path.stat().st_size > 1000 for path in files)
