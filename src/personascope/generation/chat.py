"""A conversation with a model that is loaded, turn by turn: its answer token by token, each with its projections.

Keys and values of all tokens are kept over the turns. What is in the cache is always the conversation as the chat
template renders it: where a rendering changes earlier tokens (the template drops thinking, an answer's text has another
tokenization than was sampled), the cache is cut there and they are read anew. The trace is therefore that of
`extraction.monitor` for the conversation that was saved, unless the model is steered.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from personascope.backends import Completion, Sampling
from personascope.backends.local import PreallocatedLayer
from personascope.backends.sampling import sample
from personascope.errors import UserError
from personascope.generation.answers import read_answer, spoken
from personascope.generation.simulate import turn_seed
from personascope.models.hookpoints import decoder_layers
from personascope.models.layout import token_layout
from personascope.models.projection import Probe, Reader, projecting, surprise, tokens_at_once
from personascope.models.spans import Message, encode_conversation, prompt_ids
from personascope.models.steering import Intervention, Steering
from personascope.models.trial import require_plain_cache

ROOM = 256  # tokens that a cache has room for at first; it doubles when it is full
CLOSING = 16  # tokens that the template may write behind an answer


@dataclass(frozen=True)
class Read:
    """A token that the model has read. surprise: None for the first, and where nothing is monitored; projections: one a
    column of the probe; generated: whether it was sampled just now (the others are the prompt's and the template's).

    A position that comes again replaces the earlier one.
    """

    position: int
    message_index: int
    role: str
    token_id: int
    token: str
    text: str
    in_content: bool
    surprise: float | None
    projections: list[float]
    generated: bool


@dataclass(frozen=True)
class ChatOptions:
    """sampling, seed and the most tokens of an answer; context: of the model, None where it is not known."""

    sampling: Sampling
    seed: int = 0
    max_tokens: int = 512
    context: int | None = None


class Chat:
    """The conversation and the model's cache of it."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        stop_ids: Sequence[int],
        options: ChatOptions,
        probe: Probe | None = None,
        system: str = "",
    ):
        require_plain_cache(model, "chat", "its cache cannot go back to an earlier turn: choose another model")
        self.model, self.tokenizer, self.options, self.probe = model, tokenizer, options, probe
        self.stop_ids = frozenset(stop_ids)
        self.device = model.get_input_embeddings().weight.device
        self.system = system
        self.steering = Steering(model, [])
        self.restart()

    def restart(self) -> None:
        """Forget the conversation; the system turn stays."""
        self.messages: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        self._forget()

    def steer(self, interventions: Sequence[Intervention]) -> None:
        """Steer with these from now on: the conversation so far is read anew under them."""
        self.steering = Steering(self.model, interventions)
        self._forget()

    def _forget(self) -> None:
        self._cache = Cache(layers=[GrowingLayer(ROOM) for _ in decoder_layers(self.model)])
        self._ids: list[int] = []
        self._logits: Tensor | None = None  # float [vocabulary], of what follows the cached tokens

    def say(self, text: str) -> Generator[Read]:
        """Send a message and read the answer; the messages grow by both. Closed early, the answer is what there is.

        UserError, and nothing said, where the conversation does not fit the model's context.
        """
        self.messages.append({"role": "user", "content": text})
        answer: list[int] = []
        try:
            with ExitStack() as stack:
                # Inference mode belongs to a thread, not to a generator: it is entered for each pass (`_forward`).
                stack.enter_context(self.steering.on())
                reader = stack.enter_context(projecting(self.model, self.probe)) if self.probe else None
                yield from self._answer(reader, answer)
        finally:
            self._end(answer)

    def _end(self, answer: Sequence[int]) -> None:
        """Keep what there is of an answer that was interrupted; without any, the message was not sent."""
        if self.messages[-1]["role"] == "user":
            if answer:
                self.messages.append({"role": "assistant", "content": self._content(answer)})
            else:
                self.messages.pop()
        layers: list[Any] = self._cache.layers
        if any(layer.length != len(self._ids) for layer in layers):  # a pass was interrupted between two of them
            self._crop(len(self._ids))

    def _answer(self, reader: Reader | None, answer: list[int]) -> Iterator[Read]:
        prompt = prompt_ids(self.tokenizer, self.messages)
        limit = self._limit(len(prompt))
        turn = sum(message["role"] == "user" for message in self.messages) - 1
        seed = torch.tensor([turn_seed(self.options.seed, 0, turn)], device=self.device)
        yield from self._read(reader, prompt, self.messages)
        stream, index = TextStream(self.tokenizer), len(self.messages)
        while len(answer) < limit:
            assert self._logits is not None
            token = int(sample(self._logits[None], seed, len(answer), self.options.sampling))
            if token in self.stop_ids:
                break
            answer.append(token)
            before, self._logits = self._logits, self._forward([token])[-1]
            self._ids.append(token)
            place = (len(self._ids) - 1, index, "assistant", True)
            values = self._values(reader, [token], [before])[0]
            yield self._noted(place, token, stream.add(token), values, generated=True)
        self.messages.append({"role": "assistant", "content": self._content(answer)})
        if reader:
            # What the template writes behind the answer is read now: the trace of this turn is then complete.
            yield from self._read(reader, encode_conversation(self.tokenizer, self.messages).ids, self.messages)

    def _content(self, answer: Sequence[int]) -> str:
        """What the message holds that an answer becomes."""
        completion = Completion(list(answer), "stop")
        prompt = prompt_ids(self.tokenizer, self.messages)
        return spoken(self.tokenizer, completion, read_answer(self.tokenizer, completion, prompt))

    def _limit(self, prompt: int) -> int:
        context = self.options.context
        if context is None or prompt + CLOSING < context:
            return min(self.options.max_tokens, (context or 1 << 40) - prompt - CLOSING)
        raise UserError(f"the conversation has {prompt} tokens, the model's context is {context}; start a new one")

    def _read(self, reader: Reader | None, ids: list[int], messages: Sequence[Message]) -> Iterator[Read]:
        """Have the model read what it has not, so that the cache holds exactly these tokens."""
        same = _common(self._ids, ids)
        if same < len(self._ids) or self._logits is None:
            # The logits behind the last common token are not known any more: it is read again.
            same = min(max(same - 1, 0), len(ids))
            self._crop(same)
        again = same + 1 if same and self._logits is None else same
        layout = self._layout(messages, ids) if reader else None
        step = tokens_at_once(self.model) if reader else 1 << 40
        while same < len(ids):
            part = ids[same : same + step]
            logits = self._forward(part, every=reader is not None)
            before = [self._logits, *logits[:-1]] if reader else []
            self._ids.extend(part)
            self._logits = logits[-1]
            values = self._values(reader, part, before)
            for i, token in enumerate(part):
                if layout and same + i >= again:
                    yield self._noted((same + i, *layout[same + i]), token, "", values[i], generated=False)
            same += len(part)

    def _layout(self, messages: Sequence[Message], ids: list[int]) -> list[tuple[int, str, bool]]:
        """(message, role, whether of its content) of each token; what is behind the messages opens the answer."""
        encoded = encode_conversation(self.tokenizer, messages)
        layout = token_layout(self.tokenizer, messages, encoded)
        known = zip(layout.message_index.tolist(), layout.in_content.tolist(), strict=True)
        placed = [(index, messages[index]["role"], inside) for index, inside in known]
        same = _common(encoded.ids, ids)
        return [*placed[:same], *[(len(messages), "assistant", False)] * (len(ids) - same)]

    def _crop(self, length: int) -> None:
        layers: list[Any] = self._cache.layers
        for layer in layers:
            layer.length = length
        self._ids, self._logits = self._ids[:length], None

    @torch.inference_mode()
    def _forward(self, ids: list[int], every: bool = False) -> Tensor:
        """Logits behind the last token, or behind every one, [1 or n, vocabulary]."""
        return (
            self.model(
                input_ids=torch.tensor([ids], device=self.device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=0 if every else 1,
            )
            .logits[0]
            .to(self.device)
        )

    @torch.inference_mode()
    def _values(
        self, reader: Reader | None, ids: Sequence[int], before: Sequence[Tensor | None]
    ) -> list[tuple[float | None, list[float]]]:
        """(surprise, projections) of the tokens that were read last; before: the logits before each of them."""
        if reader is None:
            return [(None, [])] * len(ids)
        known = [logits for logits in before if logits is not None]
        of = torch.tensor(ids[len(ids) - len(known) :], device=self.device)
        surprises = surprise(torch.stack(known), of).tolist() if known else []
        return list(zip([None] * (len(ids) - len(known)) + surprises, reader.take().tolist(), strict=True))

    def _noted(
        self,
        place: tuple[int, int, str, bool],
        token: int,
        text: str,
        values: tuple[float | None, list[float]],
        *,
        generated: bool,
    ) -> Read:
        piece = self.tokenizer.convert_ids_to_tokens(token) or ""  # a model may have more tokens than its tokenizer
        return Read(*place[:3], token, piece, text, place[3], *values, generated)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class GrowingLayer(PreallocatedLayer):
    """A cache layer with room for more, which doubles when it is full."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        needed = self.length + key_states.shape[2]
        if needed > self.capacity:
            self.capacity = max(needed, 2 * self.capacity)
            if self.is_initialized:
                self.keys, self.values = (self._roomier(kept) for kept in (self.keys, self.values))
        return super().update(key_states, value_states, *args, **kwargs)

    def _roomier(self, kept: Tensor) -> Tensor:
        rows, heads, _, width = kept.shape
        larger = kept.new_empty(rows, heads, self.capacity, width)
        larger[:, :, : self.length] = kept[:, :, : self.length]
        return larger


class TextStream:
    """The text of tokens that come one by one: a character whose bytes are not complete is held back."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0  # tokens whose text was given out

    def add(self, token: int) -> str:
        """The text that this token completes."""
        self._ids.append(token)
        # A token's text may depend on the one before it (a leading space): both are decoded, and the former cut off.
        start = max(0, self._shown - 1)
        before = self._decode(start, self._shown)
        text = self._decode(start, len(self._ids))
        if text.endswith("\ufffd") and len(self._ids) - self._shown < 4:
            return ""
        self._shown = len(self._ids)
        return text.removeprefix(before)

    def _decode(self, start: int, end: int) -> str:
        return self.tokenizer.decode(self._ids[start:end], skip_special_tokens=True)
