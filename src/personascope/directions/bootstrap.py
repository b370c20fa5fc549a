"""How far the axis, and what follows from it, would move with other questions and other instruction variants.

Crossed cluster bootstrap: questions (in blocks) and variants are drawn with replacement, independently, and the
same draw serves all roles, since they answer the same questions under variants of the same index. A cell (variant,
block) drawn v times as a variant and w times as a block has weight v * w, so that everything comes from `BlockSums`:
role mean of a draw = sum(v w sums) / sum(v w counts), then the transform, then the axis.

Of n units n - 1 are drawn (Rao and Wu, "Resampling inference with complex survey data", 1988): n draws of n would make
the spread too small by a factor (n - 1) / n, half of it with two variants. The spread that few units show is itself
uncertain, so that intervals are as wide as Student's t with the `degrees_of_freedom` asks. With one variant its share
is not seen at all. What is particular to a single response is counted through its variant and its question, which errs
on the wide side.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count

import numpy as np
from threadpoolctl import threadpool_limits

from personascope.directions.axis import EPS, TRANSFORMS, RoleSpace, axis_roles, role_space_of
from personascope.directions.block_sums import BlockSums
from personascope.directions.options import AxisOptions
from personascope.errors import UserError

MAX_THREADS = 8
MAX_ROUNDS = 100  # of drawing again what left a role without a response
BATCH_DRAWS = 125
CHUNK_BYTES = 24 << 20  # role vectors of a batch of draws that one thread holds at a time


@dataclass(frozen=True)
class Draws:
    """How often each variant and block was drawn: variant_weights [B, V], block_weights [B, G], and their ids."""

    variants: np.ndarray
    blocks: np.ndarray
    variant_weights: np.ndarray
    block_weights: np.ndarray

    def __len__(self) -> int:
        return len(self.variant_weights)

    def cell_weights(self, sums: BlockSums, draws: slice = slice(None)) -> np.ndarray:
        """Weights of one role's cells, float64 [B, V * G] in the order of its sums."""
        variants = self.variant_weights[draws][:, np.searchsorted(self.variants, sums.variants)]
        blocks = self.block_weights[draws][:, np.searchsorted(self.blocks, sums.blocks)]
        return np.einsum("bv,bg->bvg", variants, blocks).reshape(len(variants), -1)


@dataclass(frozen=True)
class AxisBootstrap:
    """Draws of the axis and of what belongs to it; feature-major, so that few features are read quickly.

    axes float32 [D, B]: unit axes, each with the sign that agrees with its own diff; assistants float32 [D, B]: unit
    assistant vectors, or [D, 0] where the analysis does not score on them; agreement [B]: cos(diff, pc1);
    cos_to_axis [B]: cosine of each axis to the axis of all responses; shift [B]: (mean role of the draw - mean role of
    all) . scored direction, where turns are centered on the mean role, else 0; freedom: of `degrees_of_freedom`, how
    well the draws know their own spread.
    """

    axes: np.ndarray
    assistants: np.ndarray
    agreement: np.ndarray
    cos_to_axis: np.ndarray
    shift: np.ndarray
    freedom: float = math.inf


def cells_of(sums: BlockSums, options: AxisOptions) -> np.ndarray:
    """One role's cells [V, G, width] in the analysis's space: sums of the response means, or of their maxima."""
    if options.space == "residual":
        if options.pooling != "mean":
            raise UserError("drift: residual responses are kept as means only; a residual analysis needs pooling: mean")
        (rows,) = np.nonzero(sums.layers == options.layer)
        if not len(rows):
            kept = ", ".join(map(str, sums.layers)) or "none"
            raise UserError(
                f"drift: no residuals of layer {options.layer} are kept (extraction.residual_layers: {kept})"
            )
        return sums.residual_sums[:, :, rows[0]]
    return sums.max_sums if options.pooling == "max" else sums.sums


def role_features(
    sums: dict[str, BlockSums], options: AxisOptions, *, variant: int | None = None, block: int | None = None
) -> np.ndarray:
    """Role vectors float32 [R, width] before the transform, roles sorted by name, without one variant and one block.

    A role without a response (left) is NaN.
    """
    rows = []
    for name in sorted(sums):
        kept = np.ix_(sums[name].variants != variant, sums[name].blocks != block)
        cells, count = cells_of(sums[name], options)[kept], sums[name].counts[kept].sum()
        if count == 0:
            rows.append(np.full(cells.shape[2], np.nan))
        else:
            rows.append(cells.sum((0, 1), dtype=np.float64) / count)
    return np.stack(rows).astype(np.float32)


def bootstrap(
    sums: dict[str, BlockSums],
    options: AxisOptions,
    draws: int = 1000,
    seed: int = 0,
    *,
    assistants: bool = False,
    turn_mean: bool = False,
) -> AxisBootstrap:
    """`draws` draws of the axis of {role: its sums}; UserError where a role has no response in most draws.

    assistants: keep the assistant vectors, too, for a score that is held against them; turn_mean: turns are centered
    on the mean role, so that its draws shift every score.
    """
    rng = np.random.default_rng(seed)
    result = axes_of(sums, options, draw(sums, draws, rng), assistants=assistants, turn_mean=turn_mean)
    return AxisBootstrap(**result, freedom=degrees_of_freedom(sums, options))


def degrees_of_freedom(sums: dict[str, BlockSums], options: AxisOptions) -> float:
    """Of the variance of the axis: few variants tell how much variants matter only roughly.

    The axis is made without each variant, and without each block, in turn; the jackknife's variances, summed over
    features, are the two parts, v with V - 1 and g with G - 1 degrees of freedom, together (v + g)^2 / (v^2 / (V - 1) +
    g^2 / (G - 1)) (Satterthwaite, "An approximate distribution of estimates of variance components", 1946). Infinite
    where neither varies.
    """
    variants, blocks = _ids(sums)
    v, g = len(variants), len(blocks)
    of_variants = np.concatenate([1 - np.eye(v, dtype=int), np.ones((g, v), int)])
    of_blocks = np.concatenate([np.ones((v, g), int), 1 - np.eye(g, dtype=int)])
    whole = complete(sums, Draws(variants, blocks, of_variants, of_blocks))
    axes = axes_of(sums, options, Draws(variants, blocks, of_variants[whole], of_blocks[whole]))["axes"]
    n = int(whole[:v].sum())
    total, squares = 0.0, 0.0
    for part in (axes[:, :n], axes[:, n:]):
        if (m := part.shape[1]) > 1:
            variance = (m - 1) * float(part.var(axis=1, dtype=np.float64).sum())
            total, squares = total + variance, squares + variance**2 / (m - 1)
    return total**2 / squares if squares > 0 else math.inf


def draw(sums: dict[str, BlockSums], n: int, rng: np.random.Generator) -> Draws:
    """n crossed draws of variants and blocks, one less than there are of each; one that leaves a role without a
    response is drawn again."""
    variants, blocks = _ids(sums)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    missing = n
    for _ in range(MAX_ROUNDS):
        if missing == 0:
            break
        drawn = tuple(_resampled(len(ids), missing, rng) for ids in (variants, blocks))
        weights = Draws(variants, blocks, *drawn)
        whole = complete(sums, weights)
        kept.append((drawn[0][whole], drawn[1][whole]))
        missing -= int(whole.sum())
    if missing:
        raise UserError(
            "drift: a role has responses to too few variants or questions for the bootstrap: set draws to 0"
        )
    empty = (np.zeros((0, len(variants)), int), np.zeros((0, len(blocks)), int))
    return Draws(variants, blocks, *(np.concatenate(part) for part in zip(empty, *kept, strict=True)))


def _resampled(units: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit is drawn, int [n, units]: one draw less than units, but at least one."""
    return rng.multinomial(max(units - 1, 1), np.full(units, 1 / units), n)


def complete(sums: dict[str, BlockSums], draws: Draws) -> np.ndarray:
    """Which draws leave every role a response, bool [B]."""
    return np.all([draws.cell_weights(role) @ role.counts.ravel() > 0 for role in sums.values()], axis=0)


def _ids(sums: dict[str, BlockSums]) -> tuple[np.ndarray, np.ndarray]:
    variants = np.unique(np.concatenate([role.variants for role in sums.values()]))
    return variants, np.unique(np.concatenate([role.blocks for role in sums.values()]))


def axes_of(
    sums: dict[str, BlockSums],
    options: AxisOptions,
    draws: Draws,
    *,
    assistants: bool = False,
    turn_mean: bool = False,
) -> dict[str, np.ndarray]:
    """The arrays of `AxisBootstrap` for given draws, streamed over chunks of features: never features B times."""
    names = sorted(sums)
    sums = {names[row]: sums[names[row]] for row in axis_roles(names, options).members}
    features = role_features(sums, options)
    roles = role_space_of(features, sorted(sums), options)
    mean = TRANSFORMS[options.transform](features).mean(0)
    width, scored = features.shape[1], len(draws) if assistants else 0
    out = {
        "axes": np.empty((width, len(draws)), np.float32),
        "assistants": np.empty((width, scored), np.float32),
        **{name: np.zeros(len(draws)) for name in ("agreement", "cos_to_axis", "shift")},
    }

    def fill(start: int) -> None:
        _Batch(sums, options, draws, slice(start, start + BATCH_DRAWS), roles, mean, turn_mean).fill(out)

    # A batch a core; were each product to start threads of its own besides, they would wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(cpu_count() or 1, MAX_THREADS)) as pool:
        list(pool.map(fill, range(0, len(draws), BATCH_DRAWS)))  # list: an error in a thread is raised here
    return out


class _Batch:
    """Some of the draws, b of them, over all features in chunks of k.

    Role vectors are held minus the mean role of all responses: no axis sees the difference, and the Gram matrix,
    from which the first component comes, keeps its digits in float32.
    """

    def __init__(
        self,
        sums: dict[str, BlockSums],
        options: AxisOptions,
        draws: Draws,
        batch: slice,
        roles: RoleSpace,
        mean: np.ndarray,
        turn_mean: bool,
    ) -> None:
        self.options, self.batch, self.roles, self.mean, self.turn_mean = options, batch, roles, mean, turn_mean
        self.role_vectors = [_role_vectors(sums[name], options, draws, batch) for name in roles.role_names]
        self.size = len(range(len(draws))[batch])
        wide = max(CHUNK_BYTES // (4 * self.size * len(roles.role_names)), 16)
        self.chunks = [slice(start, start + wide) for start in range(0, len(mean), wide)]
        self.space = np.empty((self.size, len(roles.role_names), min(wide, len(mean))), np.float32)
        self.totals = {name: np.zeros(self.size) for name in ("along_axis", "shift", "scored_squares")}

    def fill(self, out: dict[str, np.ndarray]) -> None:
        """Write this batch's part of the arrays of `axes_of`."""
        n_roles = len(self.roles.role_names)
        diff = np.tile(diff_coefficients(n_roles, self.roles.anchors, self.roles.others), (self.size, 1))
        gram = np.zeros((self.size, n_roles, n_roles))
        for columns in self.chunks:
            space = self._space(columns)
            gram += space @ space.transpose(0, 2, 1)
            if self.options.axis_method == "diff":
                self._write(out, columns, space, diff)
        pc1 = first_component(gram, diff)
        if self.options.axis_method == "pc1":
            for columns in self.chunks:
                self._write(out, columns, self._space(columns), pc1)
        self._finish(out, gram, {"diff": diff, "pc1": pc1})

    def _space(self, columns: slice) -> np.ndarray:
        """Role vectors of the draws in role space, minus the mean role of all responses: float32 [b, R, k].

        Valid until the next call: the memory is used again.
        """
        mean = self.mean[columns]
        space = self.space[:, :, : len(mean)]
        for role, vectors in enumerate(self.role_vectors):
            np.subtract(vectors(columns), mean, out=space[:, role])
        return space

    def _write(self, out: dict[str, np.ndarray], columns: slice, space: np.ndarray, coefficients: np.ndarray) -> None:
        """Not yet unit: the norms are known at the end."""
        axes = np.matmul(coefficients[:, None].astype(np.float32), space)[:, 0]
        out["axes"][columns, self.batch] = axes.T
        self.totals["along_axis"] += axes @ self.roles.axis[columns]
        scored, centered = axes, self.options.use_centering
        if out["assistants"].size:
            scored = space[:, self.roles.anchors].mean(1) + (-space.mean(1) if centered else self.mean[columns])
            out["assistants"][columns, self.batch] = scored.T
            self.totals["scored_squares"] += np.einsum("bk,bk->b", scored, scored)
        if self.turn_mean and not centered:
            self.totals["shift"] += np.einsum("bk,bk->b", space.mean(1), scored)

    def _finish(self, out: dict[str, np.ndarray], gram: np.ndarray, coefficients: dict[str, np.ndarray]) -> None:
        norms = {name: _norms(np.einsum("br,brs,bs->b", c, gram, c)) for name, c in coefficients.items()}
        out["agreement"][self.batch] = agreement_of(gram, coefficients["diff"], coefficients["pc1"])
        norm = scored_norm = norms[self.options.axis_method]
        out["axes"][:, self.batch] /= norm.astype(np.float32)
        out["cos_to_axis"][self.batch] = self.totals["along_axis"] / norm
        if out["assistants"].size:
            scored_norm = _norms(self.totals["scored_squares"])
            out["assistants"][:, self.batch] /= scored_norm.astype(np.float32)
        out["shift"][self.batch] = self.totals["shift"] / scored_norm


def _norms(squares: np.ndarray) -> np.ndarray:
    return np.maximum(np.sqrt(np.maximum(squares, 0)), EPS)


def diff_coefficients(n_roles: int, anchors: Sequence[int], others: Sequence[int]) -> np.ndarray:
    """diff as coefficients float64 [R] over the role vectors."""
    coefficients = np.zeros(n_roles)
    coefficients[others] = -1 / len(others)
    coefficients[anchors] = 1 / len(anchors)
    return coefficients


def first_component(gram: np.ndarray, diff: np.ndarray) -> np.ndarray:
    """Coefficients [b, R] over roles of the first principal component, with the sign that agrees with diff [b, R].

    gram [b, R, R]: dot products of the role vectors.
    """
    top = np.linalg.eigh(centered_gram(gram))[1][:, :, -1]
    top -= top.mean(1, keepdims=True)
    sign = np.where(np.einsum("br,brs,bs->b", diff, gram, top) < 0, -1, 1)
    return sign[:, None] * top


def centered_gram(gram: np.ndarray) -> np.ndarray:
    """Dot products [b, R, R] of the role vectors minus their mean, from those of the vectors themselves."""
    centered = gram - gram.mean(1, keepdims=True)
    return centered - centered.mean(2, keepdims=True)


def agreement_of(gram: np.ndarray, diff: np.ndarray, pc1: np.ndarray) -> np.ndarray:
    """cos(diff, pc1) [b] of axes that are given by their coefficients [b, R] over role vectors."""
    both, along_diff, along_pc1 = (
        np.einsum("br,brs,bs->b", a, gram, b) for a, b in ((diff, pc1), (diff, diff), (pc1, pc1))
    )
    return both / (_norms(along_diff) * _norms(along_pc1))


VectorsOf = Callable[[slice], np.ndarray]


def _role_vectors(sums: BlockSums, options: AxisOptions, draws: Draws, batch: slice) -> VectorsOf:
    """columns -> transformed role vectors float32 [b, k] of one role: weighted sums of its cells, as one product."""
    cells, weights = cells_of(sums, options), draws.cell_weights(sums, batch)
    cells = cells.reshape(-1, cells.shape[2])
    weights = (weights / (weights @ sums.counts.ravel())[:, None]).astype(np.float32)
    positive = options.space == "sae" and not (cells < 0).any()  # some SAEs have activations below 0
    transform = (POSITIVE_TRANSFORMS if positive else TRANSFORMS)[options.transform]
    return lambda columns: transform(weights @ cells[:, columns])


def _log1p_of_positive(x: np.ndarray) -> np.ndarray:
    """log1p in place for values >= 0: numpy's log is vectorized where its log1p is not (absolute error 1e-7)."""
    x += 1
    return np.log(x, out=x)


POSITIVE_TRANSFORMS = TRANSFORMS | {"log1p": _log1p_of_positive}
