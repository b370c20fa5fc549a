"""SAE features and residual means of responses, in one forward pass a batch that ends at the last layer needed.

Per token ``z = sae.encode(h)`` at the SAE's own hook point and in its own dtype; mean and max over the selected tokens,
the max by magnitude and with its sign, sums in float32 (methods: SAE features). Batches are right-padded and carry no
attention mask: in a causal model no token sees what stands to its right. Where only later tokens are pooled, keys and
values of the prefix that sequences share are computed once (`models.prefixes`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.extraction.contexts import Active
from personascope.extraction.items import Item
from personascope.formats.features import Pooled
from personascope.models.hookpoints import HookPoint, decoder_layers, require_finite, run_to
from personascope.models.prefixes import Node, can_share, extended, prefix_tree, repeated
from personascope.models.saes import LoadedSAE, encode_blocks, unexplained

SAVE_WIDER = "save the SAE in float32"
MEASURED = 512  # tokens on which the SAE's reconstruction is measured


# Called with some items, by index, the tokens selected of each, and the activations on these that are not 0.
Watch = Callable[[Sequence[int], Sequence[int], Active], None]


@dataclass(frozen=True)
class ExtractOptions:
    """residual_layers: layers whose residual means are kept; batch_tokens: padded tokens of a forward pass;
    chunk_tokens: tokens that the SAE encodes at once, which bounds the dense [tokens, d_sae] that ever exists."""

    residual_layers: tuple[int, ...] = ()
    batch_tokens: int = 2048
    chunk_tokens: int = 512


def extract(
    model: Any, sae: LoadedSAE, items: Sequence[Item], options: ExtractOptions, watch: Watch | None = None
) -> list[Pooled]:
    """Pooled features and residual means of every item, in order. Sorted by length inside, so pads are few.

    watch: sees every activation, batch by batch.
    """
    tree = Node(members=list(range(len(items))))
    if can_share(model):
        tree = prefix_tree([item.ids for item in items], [item.shareable for item in items], options.batch_tokens)
    results: list[Pooled | None] = [None] * len(items)
    for index, pooled in _extract_node(model, sae, items, options, tree, watch):
        results[index] = pooled
    return [pooled for pooled in results if pooled is not None]


@torch.inference_mode()
def _extract_node(
    model: Any,
    sae: LoadedSAE,
    items: Sequence[Item],
    options: ExtractOptions,
    node: Node,
    watch: Watch | None,
    cache: Any = None,
) -> Iterator[tuple[int, Pooled]]:
    """(index, pooled) of all sequences that start with a node's prefix, whose keys and values `cache` holds."""
    rest = {i: items[i].after(node.end) for i in node.members}
    for batch in batches_by_tokens([len(item.ids) for item in rest.values()], options.batch_tokens):
        members = [node.members[i] for i in batch]
        active = None if watch is None else ActiveEntries()
        pooled = _extract_batch(model, sae, [rest[i] for i in members], options, active, cache)
        yield from zip(members, pooled, strict=True)
        if watch is not None and active is not None:
            counts = [rest[i].n_selected for i in members]
            watch(members, counts, active.of_texts(counts))
    for child in node.children:
        first = child
        while not first.members:
            first = first.children[0]
        ids = items[first.members[0]].ids[node.end : child.end]
        longer = extended(model, cache, ids, _points(sae, options))
        yield from _extract_node(model, sae, items, options, child, watch, longer)


def _points(sae: LoadedSAE, options: ExtractOptions) -> set[HookPoint]:
    """Where the model is read."""
    return {HookPoint(layer, "resid_post") for layer in options.residual_layers} | {sae.point}


def batches_by_tokens(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices grouped so that rows x longest row <= budget, similar lengths together, longest first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class ActiveEntries:
    """Activations that are not 0, gathered from dense blocks of a batch's tokens."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, token: int, feature: int, z: Tensor) -> None:
        """A block float32 [tokens, features] that begins at this token and feature."""
        if z.device.type == "cpu":
            # numpy finds what is true in a bool array several times faster than torch finds what is not 0.
            places = np.flatnonzero((z != 0).numpy())
            values = z.numpy().ravel()[places]
        else:
            found = z.flatten().nonzero().squeeze(1)
            places, values = found.cpu().numpy(), z.flatten()[found].cpu().numpy()
        tokens, features = np.divmod(places, z.shape[1])
        self.parts.append((tokens + token, features + feature, values))

    def of_texts(self, counts: Sequence[int]) -> Active:
        """All of them; counts: the tokens of each text, one after the other."""
        if not self.parts:
            none = np.zeros(0, np.int64)
            return Active(none, none, none, np.zeros(0, np.float32))
        token, feature, value = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        starts = np.concatenate([[0], np.cumsum(counts)])
        text = np.repeat(np.arange(len(counts)), counts)[token]
        return Active(text, token - starts[text], feature, value)


def _extract_batch(
    model: Any, sae: LoadedSAE, items: list[Item], options: ExtractOptions, active: ActiveEntries | None, cache: Any
) -> list[Pooled]:
    device, ids = model.get_input_embeddings().weight.device, _padded(items)
    ranges, means = [item.ranges for item in items], _points(sae, options) - {sae.point}
    before = None if cache is None else repeated(cache, len(items))
    selected = run_to(model, ids.to(device), {sae.point}, ranges, means, before)
    counts = [item.n_selected for item in items]
    sums, peaks = _encode_pooled(sae, selected[sae.point], counts, options.chunk_tokens, active)
    if sae.point.site == "resid_post" and sae.point.layer in options.residual_layers:
        selected[sae.point] = torch.stack([_mean(rows) for rows in selected[sae.point].split(counts)])
    residuals = [selected[HookPoint(layer, "resid_post")].to(device) for layer in options.residual_layers]
    stacked = torch.stack(residuals, dim=1).cpu() if residuals else torch.zeros(len(items), 0, 0)
    return _to_sparse(counts, sums, peaks, stacked)


def _padded(items: Sequence[Item]) -> Tensor:
    """Token ids [n_items, longest], padded on the right."""
    ids = torch.zeros(len(items), max(len(item.ids) for item in items), dtype=torch.long)
    for row, item in enumerate(items):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
    return ids


def _mean(rows: Tensor) -> Tensor:
    return rows.float().mean(0) if len(rows) else rows.new_zeros(rows.shape[1], dtype=torch.float32)


def _encode_pooled(
    sae: LoadedSAE, tokens: Tensor, counts: list[int], chunk: int, active: ActiveEntries | None
) -> tuple[Tensor, Tensor]:
    """Over each item's tokens the sums, and the values of largest magnitude, float32 [n_items, d_sae]; at most `chunk`
    tokens dense at once."""
    sums = torch.zeros(len(counts), sae.d_sae, device=sae.device)
    peaks = torch.zeros_like(sums)
    owner = torch.repeat_interleave(torch.tensor(counts)).tolist()
    for start in range(0, len(tokens), chunk):
        owners = owner[start : start + chunk]
        items = [(item, len(list(same))) for item, same in groupby(owners)]
        for columns, z in encode_blocks(sae, tokens[start : start + chunk]):
            if active is not None:
                active.add(start, columns.start, z)
            for (item, _), part in zip(items, z.split([count for _, count in items]), strict=True):
                sums[item, columns] += part.sum(0)
                for peak in (part.amax(0), part.amin(0)):  # of +a and -a, +a
                    peaks[item, columns] = torch.where(
                        peak.abs() > peaks[item, columns].abs(), peak, peaks[item, columns]
                    )
    require_finite(sums, "SAE", sae.dtype, SAVE_WIDER)
    return sums, peaks


def _to_sparse(counts: list[int], sums: Tensor, peaks: Tensor, residual_means: Tensor) -> list[Pooled]:
    """Each item's active features; one look at the device for all, which an accelerator would wait for each time."""
    rows, columns = peaks.nonzero(as_tuple=True)
    n_tokens = torch.tensor(counts, device=sums.device).clamp(min=1)
    parts = columns.to(torch.int32), sums[rows, columns] / n_tokens[rows], peaks[rows, columns]
    ends = rows.bincount(minlength=len(counts)).cumsum(0)[:-1].tolist()
    indices, mean, peak = (np.split(part.cpu().numpy(), ends) for part in parts)
    return [Pooled(*item) for item in zip(counts, indices, mean, peak, residual_means.numpy(), strict=True)]


@torch.inference_mode()
def unexplained_variance(model: Any, sae: LoadedSAE, items: Sequence[Item], batch_tokens: int = 2048) -> float | None:
    """`saes.unexplained` over the first MEASURED selected tokens of these items; None where there is none."""
    chosen, n = [], 0
    for item in items:
        if n >= MEASURED:
            break
        chosen.append(item)
        n += item.n_selected
    parts: list[Tensor] = [torch.zeros(0)] * len(chosen)
    for batch in batches_by_tokens([len(item.ids) for item in chosen], batch_tokens):
        members = [chosen[i] for i in batch]
        ids = _padded(members).to(model.get_input_embeddings().weight.device)
        found = run_to(model, ids, {sae.point}, [item.ranges for item in members])[sae.point]
        for i, part in zip(batch, found.split([item.n_selected for item in members]), strict=True):
            parts[i] = part
    return unexplained(sae, torch.cat(parts)[:MEASURED]) if n else None


def layers_available(model: Any, layers: Sequence[int]) -> None:
    """UserError where a residual layer that config names is not in the model."""
    count = len(decoder_layers(model))
    if outside := [layer for layer in layers if not 0 <= layer < count]:
        raise UserError(f"extraction.residual_layers: {outside}: the model has layers 0 to {count - 1}")
