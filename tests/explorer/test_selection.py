"""Which features the map shows: streamed from sparse files, the same as the definition on dense rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from personascope.errors import UserError
from personascope.explorer import stability
from personascope.explorer.metrics import metrics_of
from personascope.explorer.selection import Selection, SelectionOptions, role_space, select_features, write_selection
from personascope.explorer.stability import split_half_stability
from tests.helpers.atlas_cases import D_SAE, Role, dense_stability, random_roles, role_matrix, write_roles

NAMES = ["assistant", "cook", "default", "pirate", "sailor"]
MODES = [("mean", False), ("mean", True), ("max", False)]


@pytest.mark.parametrize(("pooling", "centered"), MODES)
@pytest.mark.parametrize("key_rows", [4, 256])
def test_stability_is_that_of_dense_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling: str, centered: bool, key_rows: int
) -> None:
    monkeypatch.setattr(stability, "KEY_ROWS", key_rows)
    roles = random_roles(NAMES)
    files = write_roles(tmp_path, roles)
    found = split_half_stability(files, 42, pooling=pooling, centered=centered)
    np.testing.assert_allclose(found, dense_stability(roles, 42, pooling, centered), rtol=2e-4, atol=2e-5)
    assert np.all(found[-2:] == 0) and not np.allclose(found, split_half_stability(files, 43, pooling=pooling))


def test_every_role_is_dealt_anew_from_one_stream(tmp_path: Path) -> None:
    roles = random_roles(["a", "b"], seed=3)
    same = {"a": roles["a"], "b": roles["a"]}
    halves = stability.deal_halves(write_roles(tmp_path, same), 5)
    assert not np.array_equal(halves["a"].half, halves["b"].half)
    n = int(roles["a"].filled.sum())
    assert all(half.sizes.tolist() == [n // 2, n - n // 2] for half in halves.values())
    assert np.array_equal(halves["a"].half < 0, ~roles["a"].filled)


@pytest.mark.parametrize("centered", [False, True])
def test_selection_is_by_stability_times_sd_among_those_that_differ_most(tmp_path: Path, centered: bool) -> None:
    roles = random_roles(NAMES, seed=1)
    matrix, options = role_matrix(roles), SelectionOptions(centered=centered, top_k=7, split_seed=3)
    chosen = select_features(matrix, write_roles(tmp_path, roles), options)
    wide = matrix.features.astype(np.float64)
    x = wide - wide.mean(0) if centered else np.log1p(wide)
    alive = np.linalg.norm(x, axis=0) > 0 if centered else x.mean(0) > 0
    sd = np.sqrt(((x - x.mean(0)) ** 2).mean(0))
    threshold = np.median(sd[alive])
    score = dense_stability(roles, 3, centered=centered) * sd
    assert np.array_equal(chosen.alive, alive) and not alive[-2:].any()
    assert chosen.sd_threshold == pytest.approx(threshold) and np.array_equal(chosen.passing, alive & (sd >= threshold))
    np.testing.assert_allclose(chosen.sd, sd, rtol=1e-9)
    np.testing.assert_allclose(chosen.score, score, rtol=2e-4, atol=2e-5)
    ids = np.flatnonzero(alive & (sd >= threshold))
    best = sorted(ids.tolist(), key=lambda i: (-chosen.score[i], i))[:7]
    assert chosen.selected.tolist() == best and chosen.selected.dtype == np.int32


def test_features_below_0_live_and_are_told_with_their_sign(tmp_path: Path) -> None:
    """As their mirror images, which an SAE with activations of both signs might have learned as well."""
    roles = random_roles(NAMES, seed=1)
    mirrored = {name: replace(role, mean=-role.mean, max=-role.max) for name, role in roles.items()}
    first, second = (
        select_features(role_matrix(some), write_roles(tmp_path / part, some), SelectionOptions(top_k=7))
        for part, some in (("a", roles), ("b", mirrored))
    )
    assert first.alive.sum() > 40 and np.array_equal(first.alive, second.alive)
    assert np.array_equal(first.selected, second.selected) and np.array_equal(first.mu, -second.mu)
    f, ids = role_matrix(mirrored).features, second.selected
    metrics = metrics_of(role_space(f, centered=False), f, ids, centered=False)
    assert np.array_equal(metrics["max_activation"], f[:, ids].min(0)) and (metrics["max_activation"] < 0).all()
    assert np.array_equal(metrics["active_frac"], (f[:, ids] != 0).mean(0))


def test_equal_scores_are_in_the_order_of_features(tmp_path: Path) -> None:
    roles = random_roles(NAMES, seed=2)
    for role in roles.values():
        role.mean[:, [40, 7, 21]] = role.mean[:, [3]] + role.filled[:, None] * 2
    chosen = select_features(role_matrix(roles), write_roles(tmp_path, roles), SelectionOptions(top_k=D_SAE))
    place = [chosen.selected.tolist().index(i) for i in (7, 21, 40)]
    assert chosen.score[7] == chosen.score[21] and place == list(range(place[0], place[0] + 3))


def test_more_than_pass_are_all_that_pass_and_never_a_dead_one(tmp_path: Path) -> None:
    roles = random_roles(NAMES)
    chosen = select_features(role_matrix(roles), write_roles(tmp_path, roles), SelectionOptions(top_k=10**6))
    assert sorted(chosen.selected) == np.flatnonzero(chosen.passing).tolist()
    assert 0 < len(chosen.selected) < D_SAE and chosen.alive[chosen.selected].all()


def test_without_a_living_feature_nothing_is_selected(tmp_path: Path) -> None:
    roles = random_roles(["a", "b", "c"])
    for role in roles.values():
        role.mean[:] = 0
    chosen = select_features(role_matrix(roles), write_roles(tmp_path, roles), SelectionOptions())
    assert len(chosen.selected) == 0 and chosen.sd_threshold == 0 and not chosen.alive.any()


def test_a_selection_comes_back_from_its_file(tmp_path: Path) -> None:
    roles = random_roles(NAMES)
    files, matrix, path = write_roles(tmp_path, roles), tmp_path / "per_role.npz", tmp_path / "selection.npz"
    role_matrix(roles).save(matrix)
    write_selection(matrix, files, path, top_k=5, centered=True)
    kept, made = Selection.load(path), select_features(role_matrix(roles), files, SelectionOptions("mean", True, 5))
    assert kept.options == made.options and np.array_equal(kept.selected, made.selected)
    assert np.array_equal(kept.score, made.score) and kept.sd_threshold == made.sd_threshold


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    roles = random_roles(["a", "b", "c"])
    files, matrix = write_roles(tmp_path, roles), role_matrix(roles)
    with pytest.raises(UserError, match="role c is in only one"):
        select_features(matrix, {name: files[name] for name in ("a", "b")}, SelectionOptions())
    with pytest.raises(UserError, match="centered needs pooling mean"):
        SelectionOptions(pooling="max", centered=True)
    with pytest.raises(UserError, match=r"atlas\.top_k"):
        SelectionOptions(top_k=0)
    single = Role([(0, 0), (0, 1)], np.array([3, 0], np.int32), *(np.ones((2, D_SAE), np.float32) for _ in range(2)))
    with pytest.raises(UserError, match="role b has 1 responses"):
        split_half_stability(write_roles(tmp_path, roles | {"b": single}), 0)
    (tmp_path / "narrow").mkdir()
    narrow = write_roles(tmp_path / "narrow", random_roles(["b"], width=20))
    with pytest.raises(UserError, match="20 features, but 60"):
        split_half_stability(files | narrow, 0)
    matrix.save(tmp_path / "per_role.npz")
    with pytest.raises(UserError, match="no selection"):
        Selection.load(tmp_path / "per_role.npz")
