"""Block sums: cells equal the dense computation, add up to the role matrix, and belong to one set of responses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from personascope.directions.aggregate import aggregate_features, aggregate_residuals
from personascope.directions.block_sums import BlockSums, block_sums, deal_questions
from personascope.errors import UserError
from personascope.formats.features import FeatureRows, residual_writer, write_features
from tests.helpers.sparse_rows import random_dense, to_rows

D_SAE, D_MODEL = 40, 5
VARIANTS, QUESTIONS = (0, 2, 7), (3, 5, 11, 40, 41, 99, 100)
LAYERS = [2, 5]
METADATA = {"d_sae": D_SAE, "residual_layers": LAYERS}


def keyed(rows: FeatureRows) -> FeatureRows:
    """Rows whose keys run over variants (outer) and questions (inner)."""
    keys = np.array([(variant, question) for variant in VARIANTS for question in QUESTIONS], np.int32)
    return replace(rows, prompt_index=keys[:, 0], question_id=keys[:, 1])


def part(rows: FeatureRows, start: int, end: int) -> FeatureRows:
    owned = slice(rows.offsets[start], rows.offsets[end])
    few = slice(start, end)
    return FeatureRows(
        rows.prompt_index[few],
        rows.question_id[few],
        rows.n_tokens[few],
        rows.offsets[start : end + 1] - rows.offsets[start],
        rows.indices[owned],
        rows.mean[owned],
        rows.max[owned],
    )


class Role:
    """A role on disk, features and residuals in two batches each, and its dense truth."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        n = len(VARIANTS) * len(QUESTIONS)
        self.mean, self.max, self.n_tokens = random_dense(n, D_SAE, seed)
        self.rows = keyed(to_rows(self.mean, self.max, self.n_tokens))
        self.vectors = np.random.default_rng(seed).standard_normal((n, len(LAYERS), D_MODEL)).astype(np.float32)
        self.features, self.residuals = folder / f"{name}.parquet", folder / f"{name}.residuals.parquet"
        write_features(self.features, [part(self.rows, 0, 9), part(self.rows, 9, n)], METADATA)
        with residual_writer(self.residuals, LAYERS, METADATA) as write:
            write(part(self.rows, 0, 13), self.vectors[:13])
            write(part(self.rows, 13, n), self.vectors[13:])


@pytest.fixture
def role(tmp_path: Path) -> Role:
    return Role(tmp_path, "cook", 0)


def test_cells_equal_the_dense_computation(role: Role) -> None:
    sums = block_sums(role.features, role.residuals, n_blocks=3)
    assert sums.variants.tolist() == list(VARIANTS) and sums.blocks.tolist() == [0, 1, 2]
    assert sums.layers.tolist() == LAYERS
    block_of = dict(zip(sums.question_ids.tolist(), sums.question_blocks.tolist(), strict=True))
    assert block_of == {3: 0, 5: 1, 11: 2, 40: 0, 41: 1, 99: 2, 100: 0}
    blocks = np.array([block_of[int(question)] for question in role.rows.question_id])
    for v, variant in enumerate(VARIANTS):
        for g in range(3):
            cell = (role.rows.prompt_index == variant) & (blocks == g) & (role.n_tokens > 0)
            assert sums.counts[v, g] == cell.sum()
            assert sums.sums[v, g] == pytest.approx(role.mean[cell].sum(0), rel=1e-6)
            assert sums.max_sums[v, g] == pytest.approx(role.max[cell].sum(0), rel=1e-6)
            assert sums.residual_sums[v, g] == pytest.approx(role.vectors[cell].sum(0), abs=1e-6)
    assert sums.counts.sum() == np.count_nonzero(role.n_tokens) < len(role.n_tokens)
    assert sums.sums.dtype == sums.max_sums.dtype == sums.residual_sums.dtype == np.float32


def test_cells_add_up_to_the_role_matrices(tmp_path: Path) -> None:
    roles = {name: Role(tmp_path, name, seed) for seed, name in enumerate(("assistant", "baker"))}
    matrices = aggregate_features({name: role.features for name, role in roles.items()})
    vectors, layers = aggregate_residuals({name: role.residuals for name, role in roles.items()})
    for row, role in enumerate(roles.values()):
        sums = block_sums(role.features, role.residuals)
        total = sums.counts.sum()
        assert total == matrices["mean"].n_responses[row]
        assert sums.sums.sum((0, 1)) / total == pytest.approx(matrices["mean"].features[row], rel=1e-5)
        assert sums.max_sums.sum((0, 1)) / total == pytest.approx(matrices["mean_of_max"].features[row], rel=1e-5)
        assert sums.residual_sums.sum((0, 1)) / total == pytest.approx(vectors.features[row], abs=1e-6)
        assert np.array_equal(sums.layers, layers)


def test_questions_are_dealt_by_their_place_whatever_their_order() -> None:
    ids, blocks = deal_questions(np.array([9, 4, 9, 100, 7, 4]), 3)
    assert ids.tolist() == [4, 7, 9, 100] and blocks.tolist() == [0, 1, 2, 0]
    assert len(set(deal_questions(np.arange(5), 12)[1].tolist())) == 5


def test_without_residuals_there_are_no_layers(role: Role) -> None:
    sums = block_sums(role.features)
    assert len(sums.layers) == 0 and sums.residual_sums.size == 0
    assert sums.blocks.tolist() == list(range(len(QUESTIONS)))


def test_saved_sums_come_back_and_parts_can_be_left_out(role: Role, tmp_path: Path) -> None:
    sums = block_sums(role.features, role.residuals)
    sums.save(tmp_path / "cook.npz")
    again = BlockSums.load(tmp_path / "cook.npz")
    for name, array in vars(sums).items():
        assert np.array_equal(getattr(again, name), array) and getattr(again, name).dtype == array.dtype
    few = BlockSums.load(tmp_path / "cook.npz", parts=("sums",))
    assert np.array_equal(few.sums, sums.sums) and few.max_sums.size == few.residual_sums.size == 0
    assert np.array_equal(few.counts, sums.counts)


def test_residuals_of_other_responses_are_refused(role: Role, tmp_path: Path) -> None:
    few = tmp_path / "few.residuals.parquet"
    with residual_writer(few, LAYERS, METADATA) as write:
        write(part(role.rows, 0, 13), role.vectors[:13])
    strange = tmp_path / "strange.residuals.parquet"
    with residual_writer(strange, LAYERS, METADATA) as write:
        write(replace(role.rows, question_id=role.rows.question_id + 1000), role.vectors)
    for path in (few, strange):
        with pytest.raises(UserError, match="extract both again") as error:
            block_sums(role.features, path)
        assert "\n" not in str(error.value) and str(role.features) in str(error.value)


def test_a_file_without_a_response_is_refused(tmp_path: Path) -> None:
    write_features(tmp_path / "none.parquet", [], METADATA)
    with pytest.raises(UserError, match="holds no response"):
        block_sums(tmp_path / "none.parquet")
