"""Role matrices: streaming equals the dense computation, empty answers do not count, files must belong together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.directions.aggregate import SAME, aggregate_features, aggregate_residuals
from personascope.errors import UserError
from personascope.formats.features import residual_writer, write_features
from personascope.formats.role_matrix import RoleMatrix, load_role_matrix
from personascope.formats.tables import save_npz
from tests.helpers.sparse_rows import random_dense, to_rows

D_SAE, D_MODEL = 50, 6
METADATA = {
    "model": "tiny",
    "weights": "w0",
    "dtype": "float32",
    "sae": "s",
    "sae_weights": "s0",
    "template": "t",
    "token_selection": "response_only",
    "d_sae": D_SAE,
    "residual_layers": [2, 5],
}


def write_role(path: Path, n: int, seed: int, **changed: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, maximum, n_tokens = random_dense(n, D_SAE, seed)
    cut = n // 3
    blocks = [
        to_rows(mean[:cut], maximum[:cut], n_tokens[:cut]),
        to_rows(mean[cut:], maximum[cut:], n_tokens[cut:], cut),
    ]
    write_features(path, blocks, METADATA | changed)
    return mean, maximum, n_tokens


def write_residuals(path: Path, n: int, seed: int, **changed: Any) -> tuple[np.ndarray, np.ndarray]:
    mean, maximum, n_tokens = random_dense(n, D_SAE, seed)
    metadata = METADATA | changed
    layers = metadata["residual_layers"]
    vectors = np.random.default_rng(seed).standard_normal((n, len(layers), D_MODEL)).astype(np.float32)
    with residual_writer(path, layers, metadata) as write:
        for part in (slice(0, n // 3), slice(n // 3, n)):
            write(to_rows(mean[part], maximum[part], n_tokens[part], part.start), vectors[part])
    return vectors, n_tokens


def test_streamed_features_equal_the_dense_computation(tmp_path: Path) -> None:
    files: dict[str, str | Path] = {name: tmp_path / f"{name}.parquet" for name in ("cook", "assistant", "baker")}
    dense = {name: write_role(Path(path), 420, seed) for seed, (name, path) in enumerate(files.items())}
    matrices = aggregate_features(files)
    assert set(matrices) == {"mean", "max", "mean_of_max"}
    for matrix in matrices.values():
        assert matrix.role_names == ["assistant", "baker", "cook"] and matrix.features.dtype == np.float32
    for row, name in enumerate(["assistant", "baker", "cook"]):
        mean, maximum, n_tokens = dense[name]
        kept = n_tokens > 0
        assert 0 < kept.sum() < 420 and matrices["mean"].n_responses[row] == kept.sum()
        assert matrices["mean"].features[row] == pytest.approx(mean[kept].mean(0), rel=1e-5)
        assert np.array_equal(matrices["max"].features[row], maximum.max(0))
        assert matrices["mean_of_max"].features[row] == pytest.approx(maximum[kept].mean(0), rel=1e-5)


def test_activations_of_both_signs_keep_the_largest_by_magnitude(tmp_path: Path) -> None:
    mean, maximum, n_tokens = random_dense(60, D_SAE, 3)
    signs = np.random.default_rng(4).choice([-1, 1], maximum.shape).astype(np.float32)
    mean, maximum = mean * signs, maximum * signs
    maximum[:, 7] = np.where(maximum[:, 7] > 0, -maximum[:, 7], maximum[:, 7])  # a feature that is never above 0
    blocks = [to_rows(mean[part], maximum[part], n_tokens[part], part.start) for part in (slice(0, 25), slice(25, 60))]
    write_features(tmp_path / "cook.parquet", blocks, METADATA)
    matrices = aggregate_features({"cook": tmp_path / "cook.parquet"})
    expected = np.take_along_axis(maximum, np.abs(maximum).argmax(0)[None], 0)[0]
    assert np.array_equal(matrices["max"].features[0], expected)
    assert 10 < (expected < 0).sum() < 40 and expected[7] < 0
    assert matrices["mean_of_max"].features[0] == pytest.approx(maximum[n_tokens > 0].mean(0), rel=1e-5)


def test_streamed_residuals_equal_the_dense_computation(tmp_path: Path) -> None:
    files: dict[str, str | Path] = {name: tmp_path / f"{name}.parquet" for name in ("cook", "baker")}
    dense = {name: write_residuals(Path(path), 60, seed) for seed, (name, path) in enumerate(files.items())}
    matrix, layers = aggregate_residuals(files)
    assert matrix.role_names == ["baker", "cook"] and layers.tolist() == [2, 5]
    assert matrix.features.shape == (2, 2, D_MODEL) and matrix.features.dtype == np.float32
    for row, name in enumerate(["baker", "cook"]):
        vectors, n_tokens = dense[name]
        assert matrix.features[row] == pytest.approx(vectors[n_tokens > 0].mean(0), abs=1e-6)
        assert matrix.n_responses[row] == np.count_nonzero(n_tokens)


@pytest.mark.parametrize("key", SAME)
def test_files_that_do_not_belong_together_are_named(tmp_path: Path, key: str) -> None:
    files: dict[str, str | Path] = {name: tmp_path / f"{name}.parquet" for name in ("assistant", "baker")}
    write_role(Path(files["assistant"]), 6, 0)
    write_role(Path(files["baker"]), 6, 1, **{key: 99})
    with pytest.raises(UserError) as error:
        aggregate_features(files)
    text = str(error.value)
    assert "\n" not in text and all(part in text for part in [*map(str, files.values()), key, "99", str(METADATA[key])])


def test_residuals_of_other_layers_are_named(tmp_path: Path) -> None:
    files: dict[str, str | Path] = {name: tmp_path / f"{name}.parquet" for name in ("assistant", "baker")}
    write_residuals(Path(files["assistant"]), 6, 0)
    write_residuals(Path(files["baker"]), 6, 1, residual_layers=[2, 4])
    with pytest.raises(UserError, match=r"baker\.parquet: residual_layers"):
        aggregate_residuals(files)


def test_a_role_without_any_token_is_named(tmp_path: Path) -> None:
    zeros = np.zeros((3, D_SAE), np.float32)
    write_features(tmp_path / "mute.parquet", [to_rows(zeros, zeros, np.zeros(3, np.int32))], METADATA)
    with pytest.raises(UserError, match=r"mute\.parquet.*role mute"):
        aggregate_features({"mute": tmp_path / "mute.parquet"})


def test_a_role_without_any_token_is_named_for_residuals_too(tmp_path: Path) -> None:
    zeros = np.zeros((3, D_SAE), np.float32)
    with residual_writer(tmp_path / "mute.parquet", [2, 5], METADATA) as write:
        write(to_rows(zeros, zeros, np.zeros(3, np.int32)), np.zeros((3, 2, D_MODEL), np.float32))
    with pytest.raises(UserError, match=r"mute\.parquet.*role mute"):
        aggregate_residuals({"mute": tmp_path / "mute.parquet"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"baker\.parquet: no such file"):
        aggregate_features({"baker": tmp_path / "baker.parquet"})


def test_a_saved_matrix_is_readable_by_others_without_pickle(tmp_path: Path) -> None:
    matrix = RoleMatrix(np.eye(3, dtype=np.float32), ["assistant", "baker", "göbel"], np.array([4, 5, 6]))
    matrix.save(tmp_path / "per_role.npz", layers=np.array([2]))
    with np.load(tmp_path / "per_role.npz", allow_pickle=False) as data:
        assert data["features"].dtype == np.float32 and data["features"].shape == (3, 3)
        assert data["role_names"].dtype.kind == "U" and data["role_names"].tolist() == matrix.role_names
    again = load_role_matrix(tmp_path / "per_role.npz")
    assert again.role_names == matrix.role_names and again.n_responses.tolist() == [4, 5, 6]
    assert np.array_equal(again.features, matrix.features)


def test_matrices_of_others_lack_counts_and_must_fit_their_names(tmp_path: Path) -> None:
    names = np.array(["assistant", "baker"])
    save_npz(tmp_path / "theirs.npz", features=np.ones((2, 4)), role_names=names)
    matrix = load_role_matrix(tmp_path / "theirs.npz")
    assert matrix.features.dtype == np.float32 and matrix.n_responses.tolist() == [0, 0]
    save_npz(tmp_path / "wrong.npz", features=np.ones((3, 4)), role_names=names)
    with pytest.raises(UserError, match=r"wrong\.npz: 3 rows .* 2 role names"):
        load_role_matrix(tmp_path / "wrong.npz")
    save_npz(tmp_path / "part.npz", features=np.ones((3, 4)))
    with pytest.raises(UserError, match=r"part\.npz.*role_names"):
        load_role_matrix(tmp_path / "part.npz")
