"""The embedded engine: Hugging Face transformers, left-padded batches sorted by length, finished rows dropped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from personascope.backends import Completion, Request, Sampling
from personascope.backends.sampling import sample
from personascope.models.hookpoints import decoder_layers, require_finite
from personascope.models.steering import Intervention, Steering

COMPACT_BELOW = 0.85
MIN_SHARED = 16


class PreallocatedLayer(DynamicLayer):
    """A cache layer that writes into a buffer of known capacity, where the library's copies all of it each step."""

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.keys: Any = None
        self.values: Any = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            rows, heads, _, width = key_states.shape
            self.dtype, self.device = key_states.dtype, key_states.device
            self.keys = key_states.new_empty(rows, heads, self.capacity, width)
            self.values = value_states.new_empty(rows, heads, self.capacity, value_states.shape[-1])
            self.is_initialized = True
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.length


def keep_rows(cache: Cache, rows: Tensor) -> None:
    """Drop all rows of a cache but these (which may repeat a row)."""
    layers: list[Any] = cache.layers
    for layer in layers:
        layer.keys, layer.values = layer.keys[rows], layer.values[rows]


@dataclass
class _Rows:
    """The rows of a batch that are still running; all tensors share their first dimension."""

    index: Tensor  # position in the batch's list of requests; -1 once finished
    mask: Tensor  # [rows, capacity] 1 where the cache holds a real token
    ids: Tensor  # [rows, 1] or [rows, suffix]: the tokens of the next forward pass
    positions: Tensor  # their position ids
    seeds: Tensor
    limits: Tensor
    prompts: Tensor  # tokens of each row's prompt

    def keep(self, alive: Tensor) -> "_Rows":
        return _Rows(*(getattr(self, f.name)[alive] for f in fields(self)))


class TransformersBackend:
    """Generation with a model that is already loaded; see `Backend`.

    `batch_size` rows at a time; rows that finish early are dropped from the batch, and a prefix that several
    prompts of a batch share (the instruction of a role) is computed once. Sampling noise depends on a row's
    seed alone, so what else is in the batch does not matter (beyond the rounding of the forward pass).

    interventions: changes of the activations (`models.interventions`), at work during this engine's own forward passes
    alone; `steering` counts the tokens that they change.
    """

    def __init__(
        self,
        model: Any,
        stop_ids: Sequence[int],
        *,
        batch_size: int = 64,
        interventions: Sequence[Intervention] = (),
    ):
        self.model = model
        self.steering = Steering(model, interventions)
        self.batch_size = batch_size
        self.device = next(model.parameters()).device
        self.stop_ids = torch.tensor(sorted(stop_ids), device=self.device)

    def steered(self, interventions: Sequence[Intervention]) -> "TransformersBackend":
        """The same engine with these interventions in place of its own."""
        stops = self.stop_ids.tolist()
        return TransformersBackend(self.model, stops, batch_size=self.batch_size, interventions=interventions)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        # Lexicographic order puts shared prefixes side by side; within a role the lengths are alike too.
        order = sorted(range(len(requests)), key=lambda i: requests[i].prompt_ids)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            for row, completion in self._run_batch([requests[i] for i in batch], sampling):
                yield batch[row], completion

    @torch.inference_mode()
    def _run_batch(self, batch: list[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        rows, cache = self._prefill_shared(batch)
        tokens: list[list[int]] = [[] for _ in batch]
        seen = rows.mask.shape[1] - max(r.max_tokens for r in batch)
        step = 0
        while True:
            self.steering.place(rows.prompts, alive=rows.index >= 0)
            logits = self._forward(rows.ids, rows.mask[:, : seen + step], rows.positions, cache)
            # An infinite logit may be meant; where the stream has overflowed, all of a row are no numbers.
            first = logits[:, :1]
            require_finite(first.masked_fill(first.isinf(), 0), "logits", logits.dtype)
            chosen = sample(logits, rows.seeds, step, sampling)
            step += 1
            stopped = torch.isin(chosen, self.stop_ids)
            ended = stopped | (rows.limits <= step)
            for row, token, stop, end in zip(*(x.tolist() for x in (rows.index, chosen, stopped, ended)), strict=True):
                if row < 0:
                    continue
                if not stop:
                    tokens[row].append(token)
                if end:
                    yield row, Completion(tokens[row], "stop" if stop else "length")
            rows.index = rows.index.masked_fill(ended, -1)
            rows.ids, rows.positions = chosen[:, None], rows.positions[:, -1:] + 1
            alive = (rows.index >= 0).nonzero().flatten()
            if len(alive) == 0:
                return
            if len(alive) <= COMPACT_BELOW * len(rows.index):
                rows = rows.keep(alive)
                keep_rows(cache, alive)

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """Logits [rows, vocabulary] of the last token of each row."""
        # Hooked for this pass alone: what runs between two steps, and after rows that nobody asks for, is not steered.
        with self.steering.on():
            return self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]

    def _prefill_shared(self, batch: list[Request]) -> tuple[_Rows, Cache]:
        """Compute each shared prefix once and hand its cache to its rows.

        The cache of a row is then: padding, prefix, padding, suffix, new tokens; the mask leaves the padding out.
        """
        groups = self._groups(batch)
        prefixes = [batch[members[0]].prompt_ids[:length] for members, length in groups]
        suffixes = [batch[i].prompt_ids[length:] for members, length in groups for i in members]
        owner = torch.tensor([g for g, (members, _) in enumerate(groups) for _ in members], device=self.device)
        prefix_ids, prefix_mask = self._left_pad(prefixes)
        suffix_ids, suffix_mask = self._left_pad(suffixes)
        width, new = prefix_ids.shape[1], max(r.max_tokens for r in batch)
        capacity = width + suffix_ids.shape[1] + new
        cache = Cache(layers=[PreallocatedLayer(capacity) for _ in decoder_layers(self.model)])
        if width:
            positions = (prefix_mask.cumsum(-1) - 1).clamp(min=0)
            # A prefix ends before the last token of its prompts.
            self.steering.place(prefix_mask.sum(-1) + 2)
            self._forward(prefix_ids, prefix_mask, positions, cache)
            keep_rows(cache, owner)
        seen = torch.cat([prefix_mask[owner], suffix_mask], dim=1)
        mask = torch.cat([seen, seen.new_ones(len(batch), new)], dim=1)
        order = [i for members, _ in groups for i in members]
        return _Rows(
            index=torch.tensor(order, device=self.device),
            mask=mask,
            ids=suffix_ids,
            positions=(seen.cumsum(-1) - 1).clamp(min=0)[:, width:],
            seeds=torch.tensor([batch[i].seed for i in order], device=self.device),
            limits=torch.tensor([batch[i].max_tokens for i in order], device=self.device),
            prompts=torch.tensor([len(batch[i].prompt_ids) for i in order], device=self.device),
        ), cache

    def _groups(self, batch: list[Request]) -> list[tuple[list[int], int]]:
        groups = shared_prefixes([r.prompt_ids for r in batch])
        # Padding between prefix and suffix takes up room in a sliding window: share only where all of it fits.
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        prefix = max(length for _, length in groups)
        suffix = max(len(batch[i].prompt_ids) - length for members, length in groups for i in members)
        if window and prefix + suffix + max(r.max_tokens for r in batch) > window:
            return [([i], 0) for i in range(len(batch))]
        return groups

    def _left_pad(self, sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = max(map(len, sequences))
        ids = torch.zeros(len(sequences), width, dtype=torch.long)
        mask = torch.zeros(len(sequences), width, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            if sequence:
                ids[row, -len(sequence) :] = torch.tensor(sequence)
                mask[row, -len(sequence) :] = 1
        return ids.to(self.device), mask.to(self.device)


def shared_prefixes(prompts: Sequence[Sequence[int]]) -> list[tuple[list[int], int]]:
    """Group prompts (in lexicographic order) that start alike: (members, length of their common prefix) each.

    Prompts that share fewer than MIN_SHARED tokens with their neighbors stand alone with length 0 only when
    no group is worth having; at least one token of every prompt is left outside the prefix.
    """
    groups: list[tuple[list[int], int]] = []
    for i, prompt in enumerate(prompts):
        if groups:
            members, length = groups[-1]
            common = _common_prefix(prompts[members[0]], prompt, min(length, len(prompt) - 1))
            # Growing the group must not cut its prefix to less than half.
            if common >= max(MIN_SHARED, length // 2 if len(members) > 1 else 0):
                groups[-1] = ([*members, i], common)
                continue
        groups.append(([i], len(prompt) - 1))
    return [(members, length if len(members) > 1 else 0) for members, length in groups]


def _common_prefix(a: Sequence[int], b: Sequence[int], limit: int) -> int:
    return next((i for i in range(limit) if a[i] != b[i]), limit)
