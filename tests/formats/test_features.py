"""Files: whole or not at all, valid JSON, and formats that come back as they were written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from personascope.errors import UserError
from personascope.formats.export import export_npz
from personascope.formats.features import FeatureRows, iter_features, residual_writer, write_features
from personascope.formats.files import atomic_path, iter_jsonl, read_json, write_json, write_jsonl, write_text
from personascope.formats.tables import load_npz, open_parquet, save_npz
from tests.helpers.sparse_rows import random_dense, to_rows

D_SAE = 40
METADATA = {"model": "tiny", "d_sae": D_SAE, "residual_layers": [1, 3], "note": "ö"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fields(block: FeatureRows) -> dict[str, list[Any]]:
    return {name: getattr(block, name).tolist() for name in FeatureRows.__dataclass_fields__}


def test_a_failed_write_leaves_neither_file_nor_remains(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(tmp_path / "a.json", [{"x": 1}, {"x": float("inf")}])
    assert (tmp_path / "a.json").read_text() == "old" and names(tmp_path) == ["a.json"]


def test_a_write_makes_its_folder_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    for value in ({"b": 1}, {"ä": [1, None, "x"]}):
        write_json(path, value)
        assert read_json(path) == value
    assert names(path.parent) == ["a.json"]


def test_written_files_get_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_text(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_jsonl_round_trip(tmp_path: Path) -> None:
    rows = [{"text": "two\nlines \u2028 ü"}, {"n": 1.5}, {}]
    write_jsonl(tmp_path / "a.jsonl", iter(rows))
    assert list(iter_jsonl(tmp_path / "a.jsonl")) == rows
    assert len((tmp_path / "a.jsonl").read_bytes().split(b"\n")) == 4


def test_features_round_trip_over_several_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "baker.parquet"
    mean, maximum, n_tokens = random_dense(300, D_SAE)
    blocks = [
        to_rows(mean[:290], maximum[:290], n_tokens[:290]),
        to_rows(mean[290:], maximum[290:], n_tokens[290:], 290),
    ]
    write_features(path, iter(blocks), METADATA)
    file, metadata = open_parquet(path)
    assert metadata == METADATA and file.num_row_groups == 3
    read = list(iter_features(path))
    assert sum(len(block) for block in read) == 300 and max(len(block) for block in read) <= 64
    assert np.array_equal(np.concatenate([block.dense("mean", D_SAE) for block in read]), mean)
    assert np.array_equal(np.concatenate([block.dense("max", D_SAE) for block in read]), maximum)
    assert np.array_equal(np.concatenate([block.n_tokens for block in read]), n_tokens)
    assert np.concatenate([block.question_id for block in read]).tolist() == list(range(300))
    assert {block.mean.dtype.str for block in read} == {"<f4"} and {block.indices.dtype.str for block in read} == {
        "<i4"
    }


def test_empty_responses_keep_their_place(tmp_path: Path) -> None:
    zeros = np.zeros((2, D_SAE), np.float32)
    nothing = to_rows(zeros, zeros, np.zeros(2, np.int32))
    write_features(tmp_path / "a.parquet", [nothing], METADATA)
    (block,) = iter_features(tmp_path / "a.parquet")
    assert fields(block) == fields(nothing) and block.offsets.tolist() == [0, 0, 0]
    assert not block.dense("mean", D_SAE).any()


def test_only_the_poolings_asked_for_are_read(tmp_path: Path) -> None:
    mean, maximum, n_tokens = random_dense(6, D_SAE)
    write_features(tmp_path / "a.parquet", [to_rows(mean, maximum, n_tokens)], METADATA)
    (block,) = iter_features(tmp_path / "a.parquet", columns=["max"])
    assert np.array_equal(block.dense("max", D_SAE), maximum) and len(block.mean) == 0


def test_features_are_plain_parquet_for_others(tmp_path: Path) -> None:
    mean, maximum, n_tokens = random_dense(6, D_SAE)
    write_features(tmp_path / "a.parquet", [to_rows(mean, maximum, n_tokens)], METADATA)
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["n_tokens"] for row in rows] == n_tokens.tolist()
    for row, dense in zip(rows, maximum, strict=True):
        assert row["indices"] == np.flatnonzero(dense).tolist()
        assert np.float32(row["max"]).tolist() == dense[row["indices"]].tolist()


def test_a_failure_between_blocks_leaves_no_features(tmp_path: Path) -> None:
    def blocks() -> Any:
        yield to_rows(*random_dense(3, D_SAE))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_features(tmp_path / "a.parquet", blocks(), METADATA)
    assert names(tmp_path) == []


def test_residuals_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "baker.residuals.parquet"
    mean, maximum, n_tokens = random_dense(7, D_SAE)
    vectors = np.random.default_rng(1).standard_normal((7, 2, 5)).astype(np.float32)
    with residual_writer(path, [1, 3], METADATA) as write:
        for part in (slice(0, 4), slice(4, 7)):
            write(to_rows(mean[part], maximum[part], n_tokens[part], part.start), vectors[part])
    file, metadata = open_parquet(path)
    assert metadata == METADATA and file.num_row_groups == 2
    table = file.read().to_pydict()
    assert table["question_id"] == list(range(7)) and table["n_tokens"] == n_tokens.tolist()
    assert np.array_equal(np.array(table["layer_1"], np.float32), vectors[:, 0])
    assert np.array_equal(np.array(table["layer_3"], np.float32), vectors[:, 1])


def test_failed_residuals_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), residual_writer(tmp_path / "a.parquet", [1], METADATA) as write:
        write(to_rows(*random_dense(3, D_SAE)), np.zeros((3, 1, 5), np.float32))
        raise RuntimeError
    assert names(tmp_path) == []


def damaged(path: Path, start: int, length: int) -> bytes:
    data = bytearray(path.read_bytes())
    data[start : start + length] = bytes(length)
    return bytes(data)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet"):
        list(iter_features(tmp_path / "a.parquet"))


def test_truncated_features_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_features(path, [to_rows(*random_dense(6, D_SAE))], METADATA)
    whole = path.read_bytes()
    for length in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"a\.parquet.*run again"):
            list(iter_features(path))


def test_features_with_a_damaged_page_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_features(path, [to_rows(*random_dense(6, D_SAE))], METADATA)
    path.write_bytes(damaged(path, 4, 60))
    with pytest.raises(UserError, match=r"a\.parquet"):
        list(iter_features(path))


def test_missing_and_foreign_parquet_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.parquet: no such file"):
        open_parquet(tmp_path / "a.parquet")
    mean, maximum, n_tokens = random_dense(3, D_SAE)
    write_features(tmp_path / "ours.parquet", [to_rows(mean, maximum, n_tokens)], METADATA)
    pq.write_table(pq.read_table(tmp_path / "ours.parquet").replace_schema_metadata(), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet.*metadata"):
        open_parquet(tmp_path / "a.parquet")


def test_npz_round_trip_without_pickle(tmp_path: Path) -> None:
    arrays = {"features": np.eye(3, dtype=np.float32), "role_names": np.array(["a", "ö"])}
    for save in (save_npz, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        features, role_names = load_npz(tmp_path / "a.npz", "features", "role_names")
        assert features.dtype == np.float32 and np.array_equal(features, np.eye(3))
        assert role_names.tolist() == ["a", "ö"]


def test_object_arrays_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names"):
        save_npz(tmp_path / "a.npz", names=np.array(["a", None], dtype=object))
    assert names(tmp_path) == []
    np.savez(tmp_path / "a.npz", names=np.array(["a", None], dtype=object))
    with pytest.raises(UserError, match=r"a\.npz"):
        load_npz(tmp_path / "a.npz", "names")


def test_missing_npz_files_and_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.npz: no such file"):
        load_npz(tmp_path / "a.npz", "x")
    save_npz(tmp_path / "a.npz", y=np.zeros(2))
    with pytest.raises(UserError, match=r"a\.npz.*\bx\b"):
        load_npz(tmp_path / "a.npz", "x")


def test_damaged_npz_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(500))
    whole = path.read_bytes()
    for content in (b"", whole[:20], whole[:-30], damaged(path, 100, 20)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.npz"):
            load_npz(path, "x")


def role_files(folder: Path) -> tuple[Path, Path, list[dict[str, Any]], np.ndarray, np.ndarray]:
    mean, maximum, n_tokens = random_dense(260, D_SAE)
    features, responses = folder / "baker.parquet", folder / "baker.jsonl"
    write_features(features, [to_rows(mean, maximum, n_tokens)], METADATA)
    rows = [
        {"prompt_index": 0, "question_id": i, "response": f"answer {i}", "response_token_ids": [1, i]}
        for i in range(260)
    ]
    write_jsonl(responses, rows)
    return features, responses, rows, mean, maximum


def test_exported_arrays_are_dense_and_equal(tmp_path: Path) -> None:
    features, responses, rows, mean, maximum = role_files(tmp_path)
    npz, jsonl = export_npz(features, responses, tmp_path / "out")
    assert (npz, jsonl) == (tmp_path / "out" / "baker.npz", tmp_path / "out" / "baker.jsonl")
    with np.load(npz, allow_pickle=False) as data:
        assert sorted(data) == ["max_features", "mean_features"]
        assert data["mean_features"].dtype == data["max_features"].dtype == np.float32
        assert np.array_equal(data["mean_features"], mean) and np.array_equal(data["max_features"], maximum)
    written = list(iter_jsonl(jsonl))
    assert [row["question_id"] for row in written] == list(range(260))
    assert written[5] == {key: value for key, value in rows[5].items() if key != "response_token_ids"}


@pytest.mark.parametrize("change", ["missing row", "other order", "no key"])
def test_export_refuses_responses_of_other_rows(tmp_path: Path, change: str) -> None:
    features, responses, rows, _, _ = role_files(tmp_path)
    first = {key: value for key, value in rows[0].items() if key != "prompt_index"}
    changed = {"missing row": rows[:-1], "other order": rows[::-1], "no key": [first, *rows[1:]]}[change]
    responses.write_text("".join(json.dumps(row) + "\n" for row in changed))
    with pytest.raises(UserError) as error:
        export_npz(features, responses, tmp_path / "out")
    assert str(responses) in str(error.value) and str(features) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_export_refuses_a_file_of_residual_means(tmp_path: Path) -> None:
    _, responses, _, mean, maximum = role_files(tmp_path)
    path = tmp_path / "baker.residuals.parquet"
    with residual_writer(path, [1], METADATA) as write:
        write(to_rows(mean, maximum, np.ones(260, np.int32)), np.zeros((260, 1, 4), np.float32))
    with pytest.raises(UserError, match="residuals"):
        export_npz(path, responses, tmp_path / "out")
