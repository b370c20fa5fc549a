"""Any server that speaks the OpenAI chat API: OpenRouter and others that take messages, and no token ids.

The server's own template makes the prompt, so prompts are not token-exact; its answers are text, whose token ids are
made again with the local tokenizer. Judges ask it for the probabilities of the first token.

The transport is `Endpoint` and not the `openai` package. Tried against the same server (3.57), that one retries and
waits as told, but has no pace and no bound on requests in flight, its timeout is between bytes and not over a try, it
gives back as a completion what is none (HTML, a list of models, a provider's error with status 200), and its errors
quote a key that the server repeats.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from personascope.backends import Completion, Message, Request, Sampling
from personascope.backends.endpoint import Endpoint, route
from personascope.errors import UserError
from personascope.formats.responses import finish_reason

# What this client itself decides; another value would give replies that it cannot read or count.
OWN_FIELDS = {"model", "messages", "stream", "n", "logprobs", "top_logprobs"}
TOP_LOGPROBS = 20  # the most that OpenAI's API gives


@dataclass(frozen=True)
class _Reply:
    """One reply: its text, its reasoning, why it ended, and the first token's alternatives (None: not given)."""

    text: str
    reasoning: str | None
    finish_reason: str
    first_token: list[tuple[str, float]] | None


class ChatClient:
    """Generation over HTTP, POST {base_url}/chat/completions with messages; see `Backend`.

    model: the name the server knows it by
    stop_ids: not used, since the server ends its turns itself
    base_url: with the API's prefix, usually ending in /v1
    api_key_env: no key is sent unless its variable is named: the key of one provider must not go to another's server
    engine_options: fields added to every request as they are (`provider`, `reasoning`, ...), in place of those of the
        same name; one that is None is left out (`seed: null` for servers that refuse a seed; others take it and do not
        heed it). They are written into results: no place for a secret.
    tokenizer: makes the token ids of answers; without it completions have none
    The other options are those of `Endpoint`.

    Raises UserError where the endpoint is down, refuses a request, or answers something else than chat completions.
    """

    def __init__(
        self,
        model: str,
        stop_ids: Sequence[int] = (),
        *,
        base_url: str,
        api_key_env: str | None = None,
        max_concurrency: int = 16,
        requests_per_minute: float | None = None,
        timeout_s: float = 120,
        max_retries: int = 6,
        backoff_s: float = 0.5,
        engine_options: dict[str, Any] | None = None,
        tokenizer: Any = None,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.fields = dict(engine_options or {})
        if own := sorted(OWN_FIELDS & set(self.fields)):
            raise UserError(f"backend_options.engine_options: {own[0]} is set by the backend chat; leave it out")
        self.endpoint = Endpoint(
            route(base_url, "/chat/completions"),
            gives="chat completions",
            serves=f"the model {model!r}",
            api_key_env=api_key_env,
            max_concurrency=max_concurrency,
            requests_per_minute=requests_per_minute,
            timeout_s=timeout_s,
            max_retries=max_retries,
            backoff_s=backoff_s,
            uds=None,
        )

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as replies come; closing the iterator cancels what is in flight.

        Every request needs `messages`; `prompt_ids` are not looked at.
        """
        bodies = [self._body(r.messages, r.seed, r.max_tokens, sampling) for r in requests]
        with closing(self.endpoint.ask(bodies, _parse)) as replies:
            for index, reply in replies:
                yield index, self._completion(reply)

    def first_token(
        self, conversations: Sequence[Sequence[Message]], *, max_tokens: int = 1, seed: int = 0
    ) -> Iterator[tuple[int, list[tuple[str, float]] | None, str]]:
        """Yield (index, alternatives of the first output token, the reply's text) as replies come, in any order.

        alternatives: up to 20 (token's text, natural log of its probability); None where the server gives none (it may
        leave them out without a word), and empty where nothing was said. max_tokens: more than 1 for servers that
        refuse so short an answer.
        """
        greedy = Sampling(temperature=0.0, top_p=1.0)
        asked = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        bodies = [self._body(messages, seed, max_tokens, greedy) | asked for messages in conversations]
        with closing(self.endpoint.ask(bodies, _parse)) as replies:
            for index, reply in replies:
                yield index, reply.first_token, reply.text

    def _body(
        self, messages: Sequence[Message] | None, seed: int, max_tokens: int, sampling: Sampling
    ) -> dict[str, Any]:
        if not messages:
            raise ValueError("the backend chat needs the messages of a request")
        fields: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        given = {name: value for name, value in (fields | self.fields).items() if value is not None}
        return {"model": self.model, "messages": list(messages), **given}

    def _completion(self, reply: _Reply) -> Completion:
        ids = [] if self.tokenizer is None else self.tokenizer.encode(reply.text, add_special_tokens=False)
        return Completion(list(ids), reply.finish_reason, reply.text, reply.reasoning, prompt_exact=False)


def _parse(body: Any) -> _Reply | None:
    """choices[0] of a chat completion; None where the reply is anything else, or says nothing at all.

    A prompt that the server refuses to hand on is answered by nothing, with its word for that: one role's question
    must not end the run.
    """
    if not isinstance(body, dict):
        return None
    if _is_flagged(body.get("error")):
        return _Reply("", None, "content_filter", [])
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return None
    reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content")) or None
    # A refusal stands in a field of its own where there is no content: it is what the model says.
    text = _text(message.get("content"))
    text = _text(message.get("refusal")) if text is None else text
    word = choice.get("finish_reason")
    if (text is None and message.get("content") is not None) or not isinstance(word, str | None):
        return None
    if word == "error" or not (word or text):
        return None
    first = _first_token(choice.get("logprobs")) or (None if text else [])
    return _Reply(text or "", reasoning, finish_reason(word), first)


def _is_flagged(error: Any) -> bool:
    """Whether an error says that the prompt was flagged: Azure by its code, OpenRouter by what it quotes."""
    if not isinstance(error, dict):
        return False
    metadata = error.get("metadata")
    return error.get("code") == "content_filter" or (isinstance(metadata, dict) and "flagged_input" in metadata)


def _text(content: Any) -> str | None:
    """The text of a content: text, or a list of parts with text among them; None where it is neither."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        texts = [text for text in parts if isinstance(text, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    # Half of an emoji, where an answer was cut within it, is no character and could not be written to a file.
    return re.sub("[\ud800-\udfff]", "\ufffd", content) if isinstance(content, str) else None


def _first_token(logprobs: Any) -> list[tuple[str, float]] | None:
    """The first token's alternatives; None where there are none: the chosen token alone is no distribution."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = tokens[0] if isinstance(tokens, list) and tokens else None
    top = first.get("top_logprobs") if isinstance(first, dict) else None
    if not isinstance(top, list):
        return None
    found = [(one.get("token"), one.get("logprob")) for one in top if isinstance(one, dict)]
    pairs = [
        (token, float(value))
        for token, value in found
        if isinstance(token, str) and isinstance(value, int | float) and not math.isnan(value)
    ]
    return pairs or None
