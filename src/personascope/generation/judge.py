"""A judge's score as an expected value: the numbers of the scale, each with the probability that the judge writes it.

score = sum_k k p_k / sum_k p_k over the numbers k = 0..top of the scale (Chen et al. 2025, arXiv 2507.21509), no score
where sum_k p_k < 0.25. p_k is the probability that the answer begins with exactly the number k: the product of its
tokens' probabilities, times the probability that no further digit follows (else 5 would be credited with what the
judge says of 57). The numbers form a tree of tokens: tokenizers that split digits make 57 of 5 and 7, others have
tokens of up to three digits. The tree is the same for all prompts, and its nodes together are one short suffix of the
prompt: each attends to the prompt and to the nodes above it, so that one forward pass scores all numbers.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from personascope.backends.local import MIN_SHARED, PreallocatedLayer, keep_rows
from personascope.errors import UserError
from personascope.models.hookpoints import decoder_layers
from personascope.models.loading import context_length
from personascope.models.spans import encode_conversation, locate_spans
from personascope.models.trial import require_plain_cache

LEAST_MASS = 0.25
BATCH_TOKENS = 2048
PASS_TOKENS = 64  # what a forward pass of its own costs, in tokens
# A token that begins with a digit, as vocabularies write it: plain, or as a single byte.
DIGIT = re.compile(r"[0-9]|<0x3[0-9]>")
PROBE = "Rate this answer."


@dataclass(frozen=True)
class Judgement:
    """score: on the scale, None where there is none; mass: probability of all numbers of the scale; problem: why there
    is no score (one of `formats.judgements.PROBLEMS`), else ""."""

    score: float | None
    mass: float
    problem: str = ""


class Judge(Protocol):
    """Scores prompts in any order, each as soon as it is scored."""

    def judge(self, prompts: Sequence[str], top: int) -> Iterator[tuple[int, Judgement]]:
        """Yield (index into `prompts`, judgement on the scale 0..top); a prompt is what the user says to the judge."""
        ...


def expected(probabilities: np.ndarray) -> Judgement:
    """The judgement that the probabilities [top + 1] of the numbers 0..top give."""
    mass = float(probabilities.sum())
    if mass < LEAST_MASS:
        return Judgement(None, mass, "little mass")
    return Judgement(float(np.arange(len(probabilities)) @ probabilities / mass), mass)


# ---- the numbers as a tree of tokens --------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumberTree:
    """The numbers 0..top as tokens, n nodes, each after its parent.

    tokens [n]; parents [n]: the node before, -1 for the prompt itself; depths [n]: from 1; nodes [top + 1]: the last
    node of each number; digits: ids of all tokens that begin with a digit, the shortest first.
    """

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    nodes: list[int]
    digits: list[int]

    def path(self, node: int) -> list[int]:
        """The tokens from the prompt to a node, itself included; [] for -1."""
        return [] if node < 0 else [*self.path(self.parents[node]), self.tokens[node]]

    def sees(self) -> Tensor:
        """Bool [n, n]: which nodes (columns) a node attends to: itself and those above it."""
        seen = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


def number_tree(tokenizer: Any, top: int, opening: str = "") -> NumberTree:
    """The tree of a tokenizer, from how its chat template renders each number as an answer behind `opening`."""
    places: dict[tuple[int, ...], int] = {}
    tokens, parents, depths, nodes = [], [], [], []
    for number in range(top + 1):
        _, written = _split(tokenizer, PROBE, opening, str(number))
        for depth in range(1, len(written) + 1):
            path = tuple(written[:depth])
            if path not in places:
                places[path] = len(tokens)
                tokens.append(path[-1])
                parents.append(places.get(path[:-1], -1))
                depths.append(depth)
        nodes.append(places[tuple(written)])
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: (len(item[0]), item[1]))
    digits = [token for text, token in vocabulary if DIGIT.match(text)]
    return NumberTree(tokens, parents, depths, nodes, digits)


def judge_prompt_ids(tokenizer: Any, prompt: str, opening: str = "") -> list[int]:
    """Token ids up to where the template puts an answer's first character behind `opening` (Qwen 3: after thinking)."""
    return _split(tokenizer, prompt, opening, "0")[0]


def _split(tokenizer: Any, prompt: str, opening: str, number: str) -> tuple[list[int], list[int]]:
    """Token ids before the number in the answer `opening` + `number`, and the number's own.

    A token that holds the number and a space before it is the number's.
    """
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": opening + number}]
    encoded = encode_conversation(tokenizer, messages)
    (span,) = locate_spans(tokenizer, messages, encoded)
    last = encoded.offsets[span.end - 1][1] - len(number)
    start = next(i for i in range(span.start, span.end) if encoded.offsets[i][1] > last)
    return encoded.ids[:start], encoded.ids[start : span.end]


def number_probabilities(tree: NumberTree, chosen: Tensor, digit_mass: Tensor) -> Tensor:
    """Probabilities of the numbers, [rows, top + 1].

    chosen [rows, n]: log-probability of each node's token after its parent; digit_mass [rows, n]: probability that a
    digit follows a node. p_k = exp(sum of the log-probabilities on k's path) (1 - digit mass after k).
    """
    path = chosen.clone()
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            path[:, node] += path[:, parent]
    return path[:, tree.nodes].exp() * (1 - digit_mass[:, tree.nodes]).clamp(min=0)


# ---- a model that is loaded here ------------------------------------------------------------------------------------


class LocalJudge:
    """A model of this process as the judge; see `Judge`.

    opening: what its answer is made to begin with ("The score is "), for models that would not begin with a number;
    batch_tokens: tokens of a forward pass at most (one prompt at least). What the prompts of a batch have in common
    at their start (the rubric, and the question where answers to the same one are judged) is computed once.
    """

    def __init__(self, model: Any, tokenizer: Any, *, opening: str = "", batch_tokens: int = BATCH_TOKENS):
        self.model, self.tokenizer, self.opening, self.batch_tokens = model, tokenizer, opening, batch_tokens
        self.device = next(model.parameters()).device
        self.config = model.config.get_text_config()
        kinds = set(getattr(self.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
        if kinds:
            raise UserError(f"judge: a model with {sorted(kinds)[0]} cannot score a tree; use the backend vllm_server")
        require_plain_cache(model, "judge", "it cannot score a tree: use the backend vllm_server")
        self._trees: dict[int, NumberTree] = {}

    def judge(self, prompts: Sequence[str], top: int) -> Iterator[tuple[int, Judgement]]:
        tree = self.tree(top)
        asked = [judge_prompt_ids(self.tokenizer, prompt, self.opening) for prompt in prompts]
        limit = context_length(self.config)
        room = limit - max(tree.depths) if limit else None
        fitting = []
        for index, ids in enumerate(asked):
            if room is not None and len(ids) > room:
                yield index, Judgement(None, 0.0, "too long")
            else:
                fitting.append(index)
        for batch in self._batches([(index, asked[index]) for index in fitting], len(tree.tokens)):
            probabilities = self.probabilities([ids for _, ids in batch], top).cpu().numpy()
            for (index, _), row in zip(batch, probabilities, strict=True):
                yield index, expected(row)

    def tree(self, top: int) -> NumberTree:
        """The numbers 0..top as this tokenizer writes them."""
        if top not in self._trees:
            self._trees[top] = number_tree(self.tokenizer, top, self.opening)
        return self._trees[top]

    def _batches(self, asked: list[tuple[int, list[int]]], nodes: int) -> Iterator[list[tuple[int, list[int]]]]:
        """Prompts in portions; those that begin alike are in one, as long as that saves tokens."""
        batch: list[tuple[int, list[int]]] = []
        for pair in sorted(asked, key=lambda pair: pair[1]):
            prompts = [ids for _, ids in batch]
            if batch:
                together = _cost([*prompts, pair[1]], nodes)
                if together > min(self.batch_tokens, _cost(prompts, nodes) + _cost([pair[1]], nodes) + PASS_TOKENS):
                    yield batch
                    batch = []
            batch.append(pair)
        if batch:
            yield batch

    @torch.inference_mode()
    def probabilities(self, prompts: Sequence[list[int]], top: int) -> Tensor:
        """Probabilities of the numbers 0..top after each prompt, float32 [rows, top + 1], in one forward pass over
        what the prompts do not have in common."""
        tree, n = self.tree(top), len(self.tree(top).tokens)
        shared = _shared(prompts)
        ids, real = self._left_pad([prompt[shared:] for prompt in prompts])
        rows, width = ids.shape
        nodes = torch.tensor(tree.tokens, device=self.device).expand(rows, n)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)[:, None]
        depths = torch.tensor(tree.depths, device=self.device)
        own = torch.cat([real.cumsum(-1) - 1 + shared, lengths - 1 + depths], dim=1).clamp(min=0)
        inputs: dict[str, Any] = {"input_ids": torch.cat([ids, nodes], dim=1), "position_ids": own}
        if shared:
            inputs["past_key_values"] = self._prefix(prompts[0][:shared], shared + width + n, rows)
        keys = torch.cat([torch.arange(shared, device=self.device).expand(rows, shared), own], dim=1)
        mask = self._mask(_visible(shared, real, tree.sees().to(self.device)), own, keys)
        logits = self.model(**inputs, attention_mask=mask, use_cache=shared > 0, logits_to_keep=n + 1).logits
        logits = logits.float().to(self.device)  # a model may lie on several devices
        norm = logits.logsumexp(-1)
        after = torch.tensor(tree.parents, device=self.device) + 1  # row 0 is the prompt's last token
        chosen = logits[:, after, nodes[0]] - norm[:, after]
        digits = (logits[:, 1:, tree.digits] - norm[:, 1:, None]).exp().sum(-1)
        return number_probabilities(tree, chosen, digits)

    def _prefix(self, ids: list[int], capacity: int, rows: int) -> Cache:
        """Keys and values of what all rows begin with, computed once and given to each."""
        cache = Cache(layers=[PreallocatedLayer(capacity) for _ in decoder_layers(self.model)])
        prefix = torch.tensor([ids], device=self.device)
        self.model(
            input_ids=prefix,
            attention_mask=torch.ones_like(prefix),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        keep_rows(cache, torch.zeros(rows, dtype=torch.long, device=self.device))
        return cache

    def _left_pad(self, sequences: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids and a mask of the real ones, int64 [rows, longest]."""
        ids = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)
        real = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, -len(sequence) :] = torch.tensor(sequence)
            real[row, -len(sequence) :] = 1
        return ids.to(self.device), real.to(self.device)

    def _mask(self, visible: Tensor, queries: Tensor, keys: Tensor) -> Any:
        """What is added to attention scores, [rows, 1, queries, keys]; for models whose layers differ, one a kind.

        visible bool [rows, queries, keys]; queries, keys: positions, by which a sliding window is measured.
        """
        window = getattr(self.config, "sliding_window", None)
        if not window or int(keys.max()) < window:
            return self._additive(visible)
        near = self._additive(visible & (queries[:, :, None] - keys[:, None, :] < window))
        kinds = getattr(self.config, "layer_types", None)
        return {"full_attention": self._additive(visible), "sliding_attention": near} if kinds else near

    def _additive(self, visible: Tensor) -> Tensor:
        dtype = next(self.model.parameters()).dtype
        blocked = torch.zeros(visible.shape, dtype=dtype, device=self.device)
        return blocked.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


def _visible(shared: int, real: Tensor, sees: Tensor) -> Tensor:
    """Bool [rows, width + n, shared + width + n]: which keys a query attends to.

    Keys: the shared prefix, the rest of the prompt (padded: `real` [rows, width]), the n nodes. Each token of a prompt
    sees what is before it; a node sees its prompt and the nodes above it.
    """
    rows, width = real.shape
    n = len(sees)
    seen = torch.ones(rows, width + n, shared + width + n, dtype=torch.bool, device=real.device)
    causal = torch.ones(width, width, dtype=torch.bool, device=real.device).tril()
    seen[:, :width, shared : shared + width] = causal & real[:, None, :].bool()
    seen[:, :width, shared + width :] = False
    seen[:, width:, shared : shared + width] = real[:, None, :].bool()
    seen[:, width:, shared + width :] = sees
    return seen


def _cost(prompts: Sequence[list[int]], nodes: int) -> int:
    """Tokens that a forward pass over these prompts computes, padding included."""
    shared = _shared(prompts)
    return shared + len(prompts) * (max(map(len, prompts)) - shared + nodes)


def _shared(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with, at least one of each left over; 0 where sharing is not worth it."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    limit = min(map(len, prompts)) - 1
    length = next((i for i in range(limit) if first[i] != last[i]), limit)
    return length if length >= MIN_SHARED else 0
