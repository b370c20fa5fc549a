"""A whole drift analysis of a long conversation from sparse tokens, against the dense method of a notebook."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from personascope.directions.axis import RoleSpace
from personascope.drift.analysis import analyze
from personascope.drift.bundle import Run, arrays, run_meta, summary, ui_bundle
from personascope.drift.options import DriftOptions
from personascope.drift.result import DriftResult
from personascope.drift.tables import tables
from personascope.formats.files import write_json
from personascope.formats.role_matrix import RoleMatrix, load_role_matrix
from personascope.formats.tables import load_npz, save_npz, write_csv
from personascope.formats.tokens import TokenActivations
from tests.benchmarks.common import Row, alternate, peak_memory_mib, seconds

TURNS, TOKENS, WIDTH, ACTIVE, ROLES = 20, 8000, 65536, 60, 50
OPTIONS = DriftOptions.of(anchor=["assistant"])
ARRAYS = ("turn", "offsets", "indices", "values", "token_ids", "position", "message_index")
RUN = Run("bench", "bench", "model", "release", "sae", 40, [{"role": "assistant", "content": ""}])


def synthetic_tokens(seed: int = 0) -> TokenActivations:
    """8,000 tokens with 60 active features each, a power law over features as in real SAEs."""
    rng = np.random.default_rng(seed)
    weights = np.arange(1, WIDTH + 1) ** -0.8
    rng.shuffle(weights)
    draws = rng.choice(WIDTH, (TOKENS, 2 * ACTIVE), p=weights / weights.sum())
    indices = np.stack([np.sort(np.unique(draw)[:ACTIVE]) for draw in draws]).astype(np.int32)
    return TokenActivations(
        turn=np.repeat(np.arange(TURNS), TOKENS // TURNS).astype(np.int32),
        n_turns=TURNS,
        offsets=np.arange(TOKENS + 1, dtype=np.int64) * ACTIVE,
        indices=indices.ravel(),
        values=rng.gamma(1.5, 100.0, indices.size).astype(np.float32),
        width=WIDTH,
        tokens=[f"▁{i}" for i in range(TOKENS)],
        token_ids=np.arange(TOKENS, dtype=np.int32),
        position=np.arange(TOKENS, dtype=np.int32),
        message_index=np.arange(1, 2 * TURNS, 2, dtype=np.int32),
    )


def synthetic_roles(seed: int = 1) -> RoleMatrix:
    """50 roles, three features in ten not in any of them."""
    rng = np.random.default_rng(seed)
    common = rng.gamma(0.5, 4.0, WIDTH) * (rng.random(WIDTH) < 0.7)
    features = (common * rng.gamma(2.0, 0.5, (ROLES, WIDTH))).astype(np.float32)
    names = sorted(["assistant", *(f"role{i:02}" for i in range(ROLES - 1))])
    return RoleMatrix(features, names, np.full(ROLES, 1200, np.int64))


def sparse(activations: TokenActivations, roles: RoleMatrix) -> DriftResult:
    """Ours: the analysis, every table and the bundle."""
    result = analyze(activations, roles.features, roles.role_names, OPTIONS)
    tables(result)
    assert isinstance(result.roles, RoleSpace)
    ui_bundle(result, result.roles, run_meta(RUN, OPTIONS))
    return result


def densify(activations: TokenActivations) -> np.ndarray:
    """float32 [8000, 65536], 2 GB: what a notebook holds after extraction."""
    dense = np.zeros((len(activations), WIDTH), np.float32)
    dense[np.repeat(np.arange(len(dense)), np.diff(activations.offsets)), activations.indices] = activations.values
    return dense


def notebook(turns: list[np.ndarray], matrix: np.ndarray, names: list[str]) -> dict[str, Any]:
    """The same from dense tokens, the exact weights included."""
    # Not imported in the fresh process: scikit-learn is no part of the stage.
    from tests.helpers.dense_drift import dense_drift, dense_roles, dense_weights

    dense = dense_drift(turns, matrix, names, OPTIONS)
    axis = dense_roles(matrix, names, OPTIONS)["axis"].astype(np.float32)
    return dense | dense_weights(turns, dense, axis, OPTIONS.display.attribution_share)


def require_same(result: DriftResult, dense: dict[str, Any]) -> None:
    """Both ways give the same numbers, or the ratio means nothing."""
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(result.score, dense["scores"][OPTIONS.scoring.score_method], **close)
    np.testing.assert_allclose(result.token_scores, dense["u"], **close)
    np.testing.assert_allclose(result.token_heat, dense["heat"], **close)
    np.testing.assert_allclose(result.confounds["corr"][: len(dense["corr"])], dense["corr"], **close)
    np.testing.assert_allclose(result.weights.w, dense["w"], rtol=1e-3, atol=1e-5)
    later = len(result.weights.as_turn) - len(dense["as_turn"])
    np.testing.assert_allclose(result.weights.as_turn[later:], dense["as_turn"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(result.weights.as_prev[: len(dense["as_prev"])], dense["as_prev"], rtol=1e-3, atol=1e-5)
    listed = result.attribution.query("n_entries == 1 and token_idx >= 0")["part"].to_numpy()
    assert abs(len(listed) - len(dense["entries"])) <= 0.01 * len(listed)
    n = min(len(listed), len(dense["entries"]))
    np.testing.assert_allclose(np.abs(listed[:n]), np.abs(dense["entries"][:n]), rtol=1e-2, atol=1e-6)
    assert result.selected == dense["selected"]
    for transition, other in zip(result.transitions, dense["transitions"], strict=True):
        np.testing.assert_allclose(transition.contrib, other["contrib"], **close)
    for name, rows in dense["tables"].items():
        expected = [row["contrib"] for row in rows]
        np.testing.assert_allclose(result.features[name]["contrib"].to_numpy(), expected, **close)


def run() -> Iterator[Row]:
    activations, roles = synthetic_tokens(), synthetic_roles()
    with TemporaryDirectory() as name:
        folder = Path(name)
        roles.save(folder / "per_role.npz")
        save_npz(folder / "tokens.npz", **{key: getattr(activations, key) for key in ARRAYS})
        command = [sys.executable, "-m", "tests.benchmarks.drift", name]
        output: list[bytes] = []
        (wall,) = alternate(lambda: output.append(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        inside, peak = (max(json.loads(line)[key] for line in output) for key in ("seconds", "peak"))
        written = sum(path.stat().st_size for path in (folder / "run").iterdir()) / 1e6
    detail = (
        f"a fresh process, from its start to {written:.0f} MB written; at most {inside:.2f} s of it behind the imports"
    )
    name = f"drift, {TURNS} turns x {TOKENS:,} tokens x {WIDTH:,}, {ROLES} roles"
    yield Row(name, f"{wall:.2f} s", "< 5 s", wall < 5, detail)
    yield Row("drift, peak memory", f"{peak:.0f} MiB", "< 1,024 MiB", peak < 1024, "the same process")

    dense = np.split(densify(activations), TURNS)
    matrix, names = roles.features, roles.role_names
    require_same(sparse(activations, roles), notebook(dense, matrix, names))
    fast, slow = alternate(lambda: sparse(activations, roles), lambda: notebook(dense, matrix, names))
    detail = f"{fast:.2f} s against {slow:.1f} s for the same numbers, exact weights too, from 2 GB of dense tokens"
    yield Row("drift against dense tokens", f"{slow / fast:.1f}x", ">= 10x", slow / fast >= 10, detail)


def write_run(folder: Path) -> None:
    """What a job does: read tokens and roles, analyze, write all tables, the bundle, the summary and the arrays."""
    stored = dict(zip(ARRAYS, load_npz(folder / "tokens.npz", *ARRAYS), strict=True))
    activations = TokenActivations(n_turns=TURNS, width=WIDTH, tokens=[f"▁{i}" for i in range(TOKENS)], **stored)
    roles = load_role_matrix(folder / "per_role.npz")
    result = analyze(activations, roles.features, roles.role_names, OPTIONS)
    assert isinstance(result.roles, RoleSpace)
    for name, table in tables(result).items():
        write_csv(folder / f"run/{name}.csv", table)
    write_json(folder / "run/ui_bundle.json", ui_bundle(result, result.roles, run_meta(RUN, OPTIONS)))
    write_json(folder / "run/summary.json", summary(result, RUN, ""))
    save_npz(folder / "run/arrays.npz", **arrays(result))


if __name__ == "__main__":
    spent = seconds(lambda: write_run(Path(sys.argv[1])))
    print(json.dumps({"seconds": spent, "peak": peak_memory_mib()}))
