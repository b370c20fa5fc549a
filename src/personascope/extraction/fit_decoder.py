"""A direction of the residual stream as a sum of few decoder rows of an SAE, with non-negative weights.

Non-negative orthogonal matching pursuit: of all rows w_f / |w_f|, take the one that points most along what is left of
the direction; fit the rows taken so far by non-negative least squares; again. Features are not negative, so the
negative of a direction is a question of its own. Any direction has rows that point along it, so that a share says
nothing without that of random directions, which are fitted alike.
"""

from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from personascope.errors import UserError
from personascope.formats.decomposition import Fit, Targets
from personascope.models.saes import LoadedSAE, SAESpec, load_sae

ROWS = 20
CLOSE = 1e-3  # of the largest value: float32 sums over many features


def write_fit(spec: SAESpec, targets: str | Path, output: str | Path) -> None:
    """From targets.npz to fit.npz; the model is not loaded."""
    fit_targets(load_sae(spec), Targets.load(targets)).save(output)


def fit_targets(sae: LoadedSAE, targets: Targets, most: int = ROWS) -> Fit:
    """The fits of a direction, its negative, and all that they are held against; UserError where the SAE is read
    elsewhere, has another width, or a decoder that is no linear map."""
    layer = sae.point.layer - (sae.point.site == "resid_pre")
    if sae.point.site not in ("resid_post", "resid_pre") or layer != targets.layer:
        raise UserError(f"decompose: the SAE is read at {sae.hook_name}, the direction is of layer {targets.layer}")
    if sae.sae.cfg.d_in != len(targets.direction):
        raise UserError(f"decompose: {len(targets.direction)} dimensions, but the SAE reads {sae.sae.cfg.d_in}")
    rows = decoder_rows(sae)
    both = [targets.direction[None], -targets.direction[None]]
    others = [targets.random, targets.halves, -targets.halves]
    chosen, weights, shares = matching_pursuit(rows, np.concatenate([*both, *others]), most)
    n, h = len(targets.random), len(targets.halves)
    unit_rows = rows[torch.from_numpy(chosen[:2].clip(0))]
    unit_rows = (unit_rows / unit_rows.norm(dim=2, keepdim=True)).double().cpu().numpy()
    cosines = np.einsum("skd,sd->sk", unit_rows, np.concatenate(both).astype(np.float64))
    return Fit(
        rows=chosen[:2],
        coefficients=weights[:2],
        shares=shares[:2],
        cosines=np.where(chosen[:2] < 0, np.nan, cosines),
        random_shares=shares[2 : 2 + n],
        half_shares=shares[2 + n :].reshape(2, h, most),
        **_contrasts(rows, targets, most),
    )


def decoder_rows(sae: LoadedSAE) -> Tensor:
    """What one unit of each feature adds to the residual stream, float32 [d_sae, d_model]; UserError where that depends
    on other features or the token."""
    sae.sae.to(torch.float32)
    rows = sae.sae.W_dec.detach()
    zero = torch.zeros(1, sae.d_sae, device=sae.device)
    tried = torch.rand(1, sae.d_sae, generator=torch.Generator().manual_seed(0)).to(sae.device)
    try:
        decoded = (sae.sae.decode(tried) - sae.sae.decode(zero))[0].detach()
    except AttributeError:  # sae-lens keeps the statistics of the tokens that it has encoded, and has none
        raise UserError("decompose: the SAE normalizes its activations token by token; its rows have no size") from None
    # Some SAEs divide by the norm of the row, so that features are in units of the residual stream.
    for scale in (torch.ones(len(rows), device=rows.device), 1 / rows.norm(dim=1)):
        difference = ((tried[0] * scale) @ rows - decoded).abs()
        if bool((difference <= CLOSE * decoded.abs().max()).all()):
            return rows if bool((scale == 1).all()) else rows * scale[:, None]
    raise UserError("decompose: the SAE's decoder is no linear map of its features")


@torch.inference_mode()
def matching_pursuit(rows: Tensor, targets: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of unit targets [T, d]: the rows chosen int64 [T, most] (-1 where none points along what is left), their weights
    with all of them float64 [T, most], and the share of the squared norm after each float64 [T, most]."""
    norms = rows.norm(dim=1).clamp(min=1e-12)
    wanted, left = targets.astype(np.float64), targets.astype(np.float64)
    count = len(targets)
    chosen = np.full((count, most), -1, np.int64)
    weights, shares = np.zeros((count, most)), np.zeros((count, most))
    for k in range(most):
        along = (rows @ torch.from_numpy(left.astype(np.float32)).to(rows.device).T) / norms[:, None]
        taken = torch.from_numpy(chosen[:, :k].T.clip(0)).to(rows.device)
        along.scatter_(0, taken, -torch.inf)
        best, row = along.max(0)
        useful = best.cpu().numpy() > 1e-6
        chosen[useful, k] = row.cpu().numpy()[useful]
        for t in range(count):
            if useful[t]:
                support = rows[torch.from_numpy(chosen[t, : k + 1])].double().cpu().numpy()
                weights[t, : k + 1], _ = nnls(support.T, wanted[t])
                left[t] = wanted[t] - weights[t, : k + 1] @ support
        shares[:, k] = 1 - (left**2).sum(1) / (wanted**2).sum(1)
    return chosen, weights, shares


@torch.inference_mode()
def _contrasts(rows: Tensor, targets: Targets, most: int) -> dict[str, np.ndarray]:
    """What the features that differ most add up to, as a share of the direction's squared norm: the squared cosine
    between it and the sum over the first k features of difference x row (0 where that points away from it)."""
    empty = np.zeros(0)
    if not len(targets.contrast):
        nothing = {"contrast_rows": empty.astype(np.int64), "contrast_shares": empty}
        return nothing | {"half_contrast_shares": np.zeros((0, most)), "whole_contrasts": empty}
    if len(targets.contrast) != len(rows):
        raise UserError(f"decompose: {len(targets.contrast)} features, but the SAE has {len(rows)}")
    norms = rows.norm(dim=1).cpu().numpy()
    first, shares = _largest(rows, norms, targets.contrast, targets.direction, most)
    pairs = zip(targets.half_contrasts, targets.halves, strict=True)
    halves = [_largest(rows, norms, contrast, direction, most)[1] for contrast, direction in pairs]
    every = np.concatenate([targets.contrast[None], targets.half_contrasts.reshape(-1, len(rows))])
    sums = (torch.from_numpy(every).to(rows.device) @ rows).double().cpu().numpy()
    directions = np.concatenate([targets.direction[None], targets.halves.reshape(-1, rows.shape[1])])
    whole = [_share(total[None], direction)[0] for total, direction in zip(sums, directions, strict=True)]
    return {
        "contrast_rows": first,
        "contrast_shares": shares,
        "half_contrast_shares": np.stack(halves) if halves else np.zeros((0, most)),
        "whole_contrasts": np.array(whole),
    }


def _largest(
    rows: Tensor, norms: np.ndarray, contrast: np.ndarray, direction: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The features of the largest |difference| x |row| [most], and the share that the first k of them give [most]."""
    first = np.argsort(-np.abs(contrast) * norms, kind="stable")[:most]
    parts = contrast[first, None] * rows[torch.from_numpy(first)].cpu().numpy()
    return first, _share(np.cumsum(parts, axis=0, dtype=np.float64), direction)


def _share(sums: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Squared cosine of each row [n, d] with a unit direction, 0 where it points away."""
    cosine = sums @ direction.astype(np.float64) / np.maximum(np.linalg.norm(sums, axis=1), 1e-12)
    return np.maximum(cosine, 0) ** 2
