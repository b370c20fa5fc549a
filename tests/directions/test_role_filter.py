"""The role filter: which responses are kept, the vectors they make, and how far the axis moves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from personascope.directions.aggregate import aggregate_features, aggregate_residuals
from personascope.directions.options import AxisOptions
from personascope.directions.role_filter import FilterOptions, keep, write_role_filter
from personascope.errors import UserError
from personascope.formats.files import write_jsonl
from personascope.formats.judgements import write_judgements
from personascope.formats.role_matrix import load_role_matrix
from tests.directions.test_aggregate import D_MODEL, D_SAE, write_residuals, write_role

ROLES = ["assistant", "cook", "default", "ghost"]
N = 30
AXIS = AxisOptions(transform="raw")
WORTH = {"metrics": {"adherence": {"against": "kappa 0.10 < 0.6"}}, "fit": False, "verdict": "not fit to judge"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Four roles of 30 responses; adherence 3, 2.5, 2.49 or none in turn (ghost: 1 throughout)."""
    places: dict[str, dict[str, str | Path]] = {
        "responses": {role: tmp_path / f"{role}.jsonl" for role in ROLES},
        "judgements": {role: tmp_path / f"{role}.judged.parquet" for role in ROLES if role != "default"},
        "features": {role: tmp_path / f"{role}.parquet" for role in ROLES},
        "residuals": {role: tmp_path / f"{role}.residuals.parquet" for role in ROLES},
    }
    for seed, role in enumerate(ROLES):
        write_role(Path(places["features"][role]), N, seed)
        write_residuals(Path(places["residuals"][role]), N, seed)
        write_jsonl(places["responses"][role], [{"prompt_index": 0, "question_id": i} for i in range(N)])
        if role != "default":
            scores = [1.0] * N if role == "ghost" else [(3.0, 2.5, 2.49, float("nan"))[i % 4] for i in range(N)]
            table = pd.DataFrame({"row": range(N), "metric": "adherence", "score": scores, "mass": 0.5, "problem": ""})
            write_judgements(places["judgements"][role], table, {"judge": "j"})
    matrices = {"mean": tmp_path / "mean.npz", "residual": tmp_path / "residual.npz"}
    aggregate_features(places["features"])["mean"].save(matrices["mean"])
    matrix, layers = aggregate_residuals(places["residuals"])
    matrix.save(matrices["residual"], layers=layers)
    (tmp_path / "worth.json").write_text(json.dumps(WORTH))
    return places | {"matrices": matrices, "worth": tmp_path / "worth.json"}


def outputs(folder: Path) -> dict[str, Path]:
    spaces = {name: folder / f"filtered/{name}.npz" for name in ("mean", "max", "mean_of_max", "residual")}
    return spaces | {"table": folder / "role_filter.csv", "axis_cosine": folder / "axis_cosine.csv"}


def test_kept_responses_make_the_vectors(files: dict[str, Any], tmp_path: Path) -> None:
    write_role_filter(**files, roles=ROLES, judge="j", options=FilterOptions(), axis=AXIS, outputs=outputs(tmp_path))
    table = pd.read_csv(tmp_path / "role_filter.csv").set_index("role")
    assert table["kept"].to_dict() == {"assistant": 16, "cook": 16, "default": 30, "ghost": 0}
    assert table["in_matrix"].to_dict() == {"assistant": True, "cook": True, "default": True, "ghost": False}
    assert table.loc["cook", "scored"] == 23 and not table.loc["default", "filtered"]
    assert set(table["verdict"]) == {"not fit to judge (adherence: kappa 0.10 < 0.6)"}
    matrix = load_role_matrix(tmp_path / "filtered/mean.npz")
    assert matrix.role_names == ["assistant", "cook", "default"]
    # The same by hand: the dense rows of the kept questions that have tokens.
    mean, maximum, n_tokens = write_role(tmp_path / "again.parquet", N, ROLES.index("cook"))
    chosen = (np.arange(N) % 4 < 2) & (n_tokens > 0)
    assert matrix.n_responses[1] == chosen.sum()
    np.testing.assert_allclose(matrix.features[1], mean[chosen].mean(0), rtol=1e-5)
    peaks = load_role_matrix(tmp_path / "filtered/max.npz").features
    np.testing.assert_array_equal(peaks[1], maximum[chosen].max(0))
    vectors, n_tokens = write_residuals(tmp_path / "again.residuals.parquet", N, ROLES.index("cook"))
    residual = load_role_matrix(tmp_path / "filtered/residual.npz").features
    assert residual.shape == (3, 2, D_MODEL) and matrix.features.shape == (3, D_SAE)
    np.testing.assert_allclose(residual[1], vectors[chosen].mean(0), rtol=1e-5, atol=1e-6)


def test_cosines_of_the_axes(files: dict[str, Any], tmp_path: Path) -> None:
    write_role_filter(**files, roles=ROLES, judge="j", options=FilterOptions(), axis=AXIS, outputs=outputs(tmp_path))
    table = pd.read_csv(tmp_path / "axis_cosine.csv").set_index("space")
    assert table.index.tolist() == ["sae", "residual layer 2", "residual layer 5"]
    assert set(table["roles_left"]) == {3} and set(table["roles"]) == {4}
    everything = load_role_matrix(files["matrices"]["mean"]).features
    left = load_role_matrix(tmp_path / "filtered/mean.npz").features

    def axis(anchors: np.ndarray, others: np.ndarray) -> np.ndarray:
        direction = anchors.mean(0) - others.mean(0)
        return direction / np.linalg.norm(direction)

    mine = axis(left[[0, 2]], left[[1]])
    assert table.loc["sae", "cosine"] == pytest.approx(mine @ axis(everything[[0, 2]], everything[[1, 3]]), abs=1e-5)
    same = axis(everything[[0, 2]], everything[[1]])
    assert table.loc["sae", "same_roles"] == pytest.approx(mine @ same, abs=1e-5)
    # The control: as many of the same responses, whichever they are, also move the axis.
    assert table["at_random"].between(0.3, 0.9999).all()


def test_the_control_draws_as_many_of_each_role(files: dict[str, Any]) -> None:
    asked = (ROLES, files["responses"], files["judgements"], FilterOptions())
    found = keep(*asked)
    assert {role: len(drawn) for role, drawn in found.drawn.items()} == {"assistant": 16, "cook": 16, "default": N}
    assert found.drawn["cook"] != found.kept["cook"] and found.drawn["cook"] <= {(0, i) for i in range(N)}
    assert found.drawn == keep(*asked).drawn


def test_an_anchor_that_is_not_left_makes_no_axis(files: dict[str, Any], tmp_path: Path) -> None:
    scores = pd.DataFrame({"row": range(N), "metric": "adherence", "score": 0.0, "mass": 0.5, "problem": ""})
    write_judgements(files["judgements"]["assistant"], scores, {"judge": "j"})
    write_role_filter(**files, roles=ROLES, judge="j", options=FilterOptions(), axis=AXIS, outputs=outputs(tmp_path))
    table = pd.read_csv(tmp_path / "axis_cosine.csv")
    assert np.isnan(table["cosine"]).all()
    assert all("'assistant' is not among" in note for note in table["note"])


@pytest.mark.parametrize(
    ("adherence", "min_count", "left"),
    [(3, 10, ["assistant", "cook", "default"]), (1, 10, ROLES), (0, 30, ["default", "ghost"])],
)
def test_thresholds(files: dict[str, Any], adherence: float, min_count: int, left: list[str]) -> None:
    found = keep(ROLES, files["responses"], files["judgements"], FilterOptions(adherence, min_count))
    assert sorted(found.kept) == left


def test_nothing_left_is_one_line_with_the_counts(files: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        keep(ROLES, files["responses"], files["judgements"], FilterOptions(3, 20))
    said = str(caught.value)
    assert "\n" not in said and "90 responses of 3 roles, 76 with a score, 32 with adherence >= 3, at most 16" in said


def test_judgements_of_other_responses_are_refused(files: dict[str, Any]) -> None:
    write_jsonl(files["responses"]["cook"], [{"prompt_index": 0, "question_id": 0}])
    with pytest.raises(UserError, match="its rows are not those of"):
        keep(ROLES, files["responses"], files["judgements"], FilterOptions())
