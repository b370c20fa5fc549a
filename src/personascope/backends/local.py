"""The embedded engine: Hugging Face transformers, left-padded batches sorted by length, finished rows dropped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from personascope.backends import Completion, Request, Sampling
from personascope.backends.sampling import sample
from personascope.errors import UserError
from personascope.models.hookpoints import decoder_layers, require_finite
from personascope.models.steering import Intervention, Steering
from personascope.models.trial import DIFFERENT, distance, once, plain_cache, trial_ids

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
        if layer.is_initialized:  # Gemma 3n's last layers read the keys of others
            own = rows.to(layer.keys.device)  # a model may lie on several devices
            layer.keys, layer.values = layer.keys[own], layer.values[own]


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
    A model that remembers more than keys and values (recurrent layers), or to which padding matters (ALiBi), has a
    cache of its own: then the prompts of a batch are of one length, nothing is shared, and no row is dropped.

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
        self.device = model.get_input_embeddings().weight.device
        self.plain = plain_cache(model)
        self.stop_ids = torch.tensor(sorted(stop_ids), device=self.device)

    def steered(self, interventions: Sequence[Intervention]) -> "TransformersBackend":
        """The same engine with these interventions in place of its own."""
        stops = self.stop_ids.tolist()
        return TransformersBackend(self.model, stops, batch_size=self.batch_size, interventions=interventions)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        if requests:
            self._settle()
        for batch in self._batches(requests):
            for row, completion in self._run_batch([requests[i] for i in batch], sampling):
                yield batch[row], completion

    def _settle(self) -> None:
        """Find out in which way the model's cache can be used; UserError names a class that goes on wrongly in both."""
        model = self.model
        self.plain = self.plain and once(model, "padded generation", lambda: generates_truly(model, True))
        if not self.plain and not once(model, "generation", lambda: generates_truly(model, False)):
            name = type(model).__name__
            raise UserError(
                f"generation: {name} does not go on from its cache as it reads whole texts; use backend: vllm"
            )

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Indices of the requests, at most `batch_size` at a time."""
        # Lexicographic order puts shared prefixes side by side; within a role the lengths are alike too.
        order = sorted(range(len(requests)), key=lambda i: requests[i].prompt_ids)
        groups = [order]
        if not self.plain:
            order.sort(key=lambda i: len(requests[i].prompt_ids))
            groups = [list(same) for _, same in groupby(order, key=lambda i: len(requests[i].prompt_ids))]
        for group in groups:
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    @torch.inference_mode()
    def _run_batch(self, batch: list[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        rows, cache = self._prefill_shared(batch)
        tokens: list[list[int]] = [[] for _ in batch]
        seen = rows.mask.shape[1] - max(r.max_tokens for r in batch)
        step = 0
        while True:
            self.steering.place(rows.prompts, alive=rows.index >= 0)
            logits, cache = self._forward(rows.ids, rows.mask[:, : seen + step], rows.positions, cache)
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
            if self.plain and cache is not None and len(alive) <= COMPACT_BELOW * len(rows.index):
                rows = rows.keep(alive)
                keep_rows(cache, alive)

    def _forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache | None
    ) -> tuple[Tensor, Cache | None]:
        """Logits [rows, vocabulary] of the last token of each row, and the cache with these tokens."""
        # Hooked for this pass alone: what runs between two steps, and after rows that nobody asks for, is not steered.
        with self.steering.on():
            output = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits[:, -1].to(self.device), output.past_key_values

    def _prefill_shared(self, batch: list[Request]) -> tuple[_Rows, Cache | None]:
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
        # None: the model makes its own.
        cache = Cache(layers=[PreallocatedLayer(capacity) for _ in decoder_layers(self.model)]) if self.plain else None
        if width and cache is not None:
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
        alone = [([i], 0) for i in range(len(batch))]
        if not self.plain:
            return alone
        groups = shared_prefixes([r.prompt_ids for r in batch])
        # Padding between prefix and suffix takes up room in a sliding window: share only where all of it fits.
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        prefix = max(length for _, length in groups)
        suffix = max(len(batch[i].prompt_ids) - length for members, length in groups for i in members)
        if window and prefix + suffix + max(r.max_tokens for r in batch) > window:
            return alone
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


@torch.inference_mode()
def generates_truly(model: Any, plain: bool) -> bool:
    """Whether logits behind the cache are those of whole texts without one; plain: in batches with padding and a
    shared prefix, else with the model's own cache."""
    ids, engine = trial_ids(model, MIN_SHARED + 8), TransformersBackend(model, [])
    engine.plain = plain
    prompts = [ids[:-4], ids[:MIN_SHARED] + ids[3:5], ids[2:11]] if plain else [ids[:9], ids[1:10]]
    steps = ids[-2:]
    try:
        rows, cache = engine._prefill_shared([Request(prompt, 0, len(steps)) for prompt in prompts])
        seen, found = rows.mask.shape[1] - len(steps), []
        for step, token in enumerate([*steps, 0]):
            logits, cache = engine._forward(rows.ids, rows.mask[:, : seen + step], rows.positions, cache)
            found.append(logits)
            rows.ids, rows.positions = torch.full_like(rows.ids[:, -1:], token), rows.positions[:, -1:] + 1
        texts = [torch.tensor([prompts[i] + steps], device=engine.device) for i in rows.index.tolist()]
        whole = [model(input_ids=text, use_cache=False).logits[0, -len(found) :] for text in texts]
    except Exception:  # whatever a class that remembers in another way does
        return False
    a, b = torch.stack(found, 1).flatten(0, 1).float(), torch.cat(whole).to(engine.device).float()
    return distance(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)) <= (DIFFERENT if plain else 3 * DIFFERENT)


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
