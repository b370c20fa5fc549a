"""The one file of a run: what comes out of it is what went in, number for number, so that nothing is computed anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.drift.analysis import analyze
from personascope.drift.bundle import arrays
from personascope.drift.options import DriftOptions
from personascope.drift.result import DriftResult
from personascope.drift.result_file import RunFile, load_run, save_run
from personascope.drift.tables import tables
from personascope.errors import UserError
from personascope.formats.tables import save_npz
from tests.helpers.drift_cases import null_of, random_roles, random_tokens, reference_of, to_activations

WIDTH = 120
MESSAGES = [{"role": "assistant", "content": "Ahoy ✨"}]


def analyzed(lengths: list[int], *, calibrated: bool, **options: Any) -> DriftResult:
    dense, turn = random_tokens(lengths, WIDTH)
    matrix, names = random_roles(7, WIDTH)
    chosen = DriftOptions.of(**options)
    reference = reference_of(matrix, names, chosen) if calibrated else None
    null = null_of(chosen, 20.0, n=20) if calibrated else None
    activations = to_activations(dense, turn, len(lengths))
    return analyze(activations, matrix, names, chosen, reference=reference, null=null, domain="poems")


@pytest.mark.parametrize("lengths", [[4, 0, 7, 5], [6], [0], []], ids=str)
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"center_turns_with_role_mean": True, "axis_method": "pc1"},
        {"transform": "raw", "score_method": "cos_assistant", "use_centering": True},
        {"space": "residual", "layer": 3},
    ],
    ids=str,
)
def test_tables_and_arrays_are_the_same_after_reading(
    tmp_path: Path, lengths: list[int], calibrated: bool, options: dict[str, Any]
) -> None:
    result = analyzed(lengths, calibrated=calibrated, **options)
    references = pd.DataFrame({"role": ["assistant", "007"], "q25": [0.1, -1], "median": [1.5, 0], "q75": [2.0, 3]})
    save_run(tmp_path / "result.npz", RunFile("default", "talk", MESSAGES, result, references))
    run = load_run(tmp_path / "result.npz")
    assert (run.analysis, run.conversation, run.messages, run.title) == ("default", "talk", MESSAGES, "talk, default")
    pd.testing.assert_frame_equal(run.references, references, check_dtype=False)
    assert isinstance(run.result, DriftResult)
    assert run.result.options == result.options and run.result.verdict == result.verdict
    for name, table in tables(result).items():
        pd.testing.assert_frame_equal(
            tables(run.result)[name], table, check_dtype=False, check_column_type=False, check_exact=True, obj=name
        )
    for name, array in arrays(result).items():
        np.testing.assert_array_equal(arrays(run.result)[name], array, err_msg=name)


def test_a_conversation_without_a_result_keeps_its_reason(tmp_path: Path) -> None:
    save_run(tmp_path / "result.npz", RunFile("default", "talk", [], "talk.json: message 1 has no role"))
    run = load_run(tmp_path / "result.npz")
    assert run.result == "talk.json: message 1 has no role" and not len(run.references)


def test_vectors_are_stored_sparse(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((60, 20_000)) < 0.001, 1.0, 0).astype(np.float32)
    matrix, names = rng.random((3, 20_000), np.float32), ["assistant", "baker", "default"]
    result = analyze(to_activations(dense, np.arange(60) // 6, 10), matrix, names, DriftOptions())
    save_run(tmp_path / "result.npz", RunFile("default", "talk", [], result))
    assert (tmp_path / "result.npz").stat().st_size < result.turns.raw.nbytes / 3


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    save_npz(tmp_path / "other.npz", features=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes(b"PK")
    for name in ("other.npz", "torn.npz", "none.npz"):
        with pytest.raises(UserError, match=name):
            load_run(tmp_path / name)
