"""Few decoder rows that add up to a direction: closed forms, conditions of the best fit, and sae-lens's own decode."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

from personascope.errors import UserError
from personascope.extraction.fit_decoder import decoder_rows, fit_targets, matching_pursuit, write_fit
from personascope.formats.decomposition import Fit, Targets
from personascope.models.saes import LoadedSAE, load_sae
from tests.extraction.test_extract import D_SAE, KINDS, save_sae
from tests.extraction.test_project_decoder import loaded, scrambled

D = 32


def unit_rows(n: int, seed: int = 0, d: int = D) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_of_orthogonal_rows_the_largest_positive_coordinates_are_taken() -> None:
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0].astype(np.float32)
    targets = unit_rows(5)
    scaled = torch.from_numpy(basis * np.linspace(0.5, 3, D, dtype=np.float32)[:, None])
    chosen, weights, shares = matching_pursuit(scaled, targets, 12)
    for target, rows, weight, share in zip(targets, chosen, weights, shares, strict=True):
        coordinates = basis @ target
        order = np.argsort(-coordinates)[:12]
        positive = int((coordinates[order] > 0).sum())
        assert rows[:positive].tolist() == order[:positive].tolist() and (rows[positive:] == -1).all()
        np.testing.assert_allclose(share, np.cumsum(np.maximum(coordinates[order], 0) ** 2), atol=1e-5)
        norms = np.linspace(0.5, 3, D)[order]
        np.testing.assert_allclose(weight, np.maximum(coordinates[order], 0) / norms, atol=1e-5)


def test_a_direction_made_of_three_rows_is_found() -> None:
    rows = unit_rows(200)
    made = 0.8 * rows[7] + 0.5 * rows[80] + 0.4 * rows[150]
    chosen, weights, shares = matching_pursuit(torch.from_numpy(rows), (made / np.linalg.norm(made))[None], 6)
    assert set(chosen[0, :3]) == {7, 80, 150} and shares[0, 2] == pytest.approx(1, abs=1e-5)
    found = dict(zip(chosen[0], weights[0] * np.linalg.norm(made), strict=True))
    assert [found[i] for i in (7, 80, 150)] == pytest.approx([0.8, 0.5, 0.4], abs=1e-4)


def test_the_weights_are_the_best_non_negative_ones() -> None:
    rows, targets = unit_rows(100, seed=3), unit_rows(8, seed=4)
    chosen, weights, shares = matching_pursuit(torch.from_numpy(rows), targets, 10)
    assert (np.diff(shares, axis=1) > -1e-9).all() and (weights >= 0).all()
    for target, support, weight, share in zip(targets, chosen, weights, shares, strict=True):
        assert len(set(support)) == 10
        left = target.astype(np.float64) - weight @ rows[support].astype(np.float64)
        along = rows[support].astype(np.float64) @ left
        # No weight can be changed for the better: nothing is left along a row that is used, and none along the others.
        np.testing.assert_allclose(along[weight > 0], 0, atol=1e-6)
        assert (along[weight == 0] <= 1e-6).all()
        assert share[-1] == pytest.approx(1 - (left**2).sum(), abs=1e-6)
        best = (rows @ target).max()
        assert share[0] == pytest.approx(best**2, abs=1e-5) and support[0] == (rows @ target).argmax()


def require_rows(sae: LoadedSAE) -> None:
    rows = decoder_rows(sae).numpy()
    zero = torch.zeros(1, D_SAE)
    for feature in (0, 5, D_SAE - 1):
        one = zero.clone()
        one[0, feature] = 2.0
        added = (sae.sae.decode(one) - sae.sae.decode(zero))[0].numpy()
        np.testing.assert_allclose(2 * rows[feature], added, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", list(KINDS))
def test_rows_are_what_a_feature_adds(kind: str, tmp_path: Path) -> None:
    require_rows(load_sae(save_sae(tmp_path / "sae", kind)))


def test_rows_that_the_decoder_rescales_are_rescaled() -> None:
    config = TopKSAEConfig(k=5, d_in=D, d_sae=D_SAE, normalize_activations="none", rescale_acts_by_decoder_norm=True)
    require_rows(loaded(scrambled(TopKSAE(config))))


def plain(hook: str = "blocks.1.hook_resid_post") -> LoadedSAE:
    return loaded(scrambled(StandardSAE(StandardSAEConfig(d_in=D, d_sae=D_SAE))), hook)


def targets_of(layer: int = 1, d: int = D, **arrays: Any) -> Targets:
    direction, random, halves = unit_rows(1, 5, d)[0], unit_rows(4, 6, d), unit_rows(3, 7, d)
    known = {"contrast": np.zeros(0, np.float32), "half_contrasts": np.zeros((3, 0), np.float32)} | arrays
    return Targets(layer, direction, random, halves, **known)


def test_the_direction_and_its_negative_and_all_others_are_fitted(tmp_path: Path) -> None:
    spec, targets = save_sae(tmp_path / "sae", "standard"), targets_of()
    targets.save(tmp_path / "targets.npz")
    write_fit(spec, tmp_path / "targets.npz", tmp_path / "fit.npz")
    fit, rows = Fit.load(tmp_path / "fit.npz"), load_sae(spec).sae.W_dec.detach().float().numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for side, sign in enumerate((1, -1)):
        assert fit.shares[side, 0] == pytest.approx((sign * unit @ targets.direction).max() ** 2, abs=1e-5)
        used = fit.rows[side] >= 0
        expected = sign * unit[fit.rows[side][used]] @ targets.direction
        np.testing.assert_allclose(fit.cosines[side][used], expected, atol=1e-5)
        assert np.isnan(fit.cosines[side][~used]).all() and (fit.coefficients[side][~used] == 0).all()
        best = (sign * unit @ targets.halves.T).max(0)
        np.testing.assert_allclose(fit.half_shares[side, :, 0], best**2, atol=1e-5)
    np.testing.assert_allclose(fit.random_shares[:, 0], (unit @ targets.random.T).max(0) ** 2, atol=1e-5)
    assert len(fit.contrast_rows) == len(fit.whole_contrasts) == 0


def test_the_contrast_is_the_sum_of_differences_times_rows() -> None:
    sae, rng = plain(), np.random.default_rng(8)
    contrasts = rng.normal(size=(4, D_SAE)).astype(np.float32)
    targets = targets_of(contrast=contrasts[0], half_contrasts=contrasts[1:])
    rows = sae.sae.W_dec.detach().numpy().astype(np.float64)
    fit = fit_targets(sae, targets)
    for n, (contrast, direction) in enumerate(zip(contrasts, [targets.direction, *targets.halves], strict=True)):
        added = contrast.astype(np.float64)[:, None] * rows
        order = np.argsort(-np.linalg.norm(added, axis=1))
        for k in (1, 7, 20):
            total = added[order[:k]].sum(0)
            cosine = total @ direction / np.linalg.norm(total)
            share = fit.contrast_shares[k - 1] if n == 0 else fit.half_contrast_shares[n - 1, k - 1]
            assert share == pytest.approx(max(cosine, 0) ** 2, abs=1e-5)
        total = added.sum(0)
        cosine = total @ direction / np.linalg.norm(total)
        assert fit.whole_contrasts[n] == pytest.approx(max(cosine, 0) ** 2, abs=1e-5)
        if n == 0:
            assert fit.contrast_rows.tolist() == order[:20].tolist()


def test_what_does_not_fit_is_refused() -> None:
    for sae, targets, reason in [
        (plain("blocks.1.hook_mlp_out"), targets_of(), "read at blocks.1.hook_mlp_out"),
        (plain(), targets_of(layer=2), "the direction is of layer 2"),
        (plain(), targets_of(d=16), "16 dimensions, but the SAE reads 32"),
        (plain(), targets_of(contrast=np.ones(3, np.float32)), f"3 features, but the SAE has {D_SAE}"),
    ]:
        with pytest.raises(UserError, match=reason):
            fit_targets(sae, targets)
    fit_targets(plain("blocks.2.hook_resid_pre"), targets_of())
    config = StandardSAEConfig(d_in=D, d_sae=D_SAE, normalize_activations="layer_norm")
    with pytest.raises(UserError, match="token by token"):
        fit_targets(loaded(scrambled(StandardSAE(config))), targets_of())
    bent = scrambled(StandardSAE(StandardSAEConfig(d_in=D, d_sae=D_SAE)))
    straight = bent.decode
    bent.decode = lambda z: torch.tanh(straight(z))
    with pytest.raises(UserError, match="no linear map"):
        fit_targets(loaded(bent), targets_of())
