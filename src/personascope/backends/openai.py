"""Any server that speaks the OpenAI completions API: vLLM's own, or a hosted one that takes token ids."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from personascope.backends import Completion, Request, Sampling
from personascope.backends.endpoint import Endpoint, route
from personascope.formats.responses import finish_reason

log = logging.getLogger(__name__)

# What vLLM's server would otherwise take from the model's generation_config.json (Qwen's: top_k 20, penalty 1.05).
NEUTRAL_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class _Choice:
    """What one reply holds; `token_ids` is None where the server gives only text."""

    text: str
    token_ids: list[int] | None
    finish_reason: str


class OpenAIBackend:
    """Generation over HTTP, POST {base_url}/completions with token ids as the prompt; see `Backend`.

    model: the name the server knows it by
    stop_ids: tokens that end a response, also cut from its end; a server without the vLLM extensions does not get them
    base_url: with the API's prefix, usually ending in /v1
    tokenizer: encodes the text where a reply has no token ids
    vllm_extensions: send `return_token_ids`, `stop_token_ids` and the like, which strict servers refuse
    The other options are those of `Endpoint`.

    Raises UserError where the endpoint is down, refuses a request, or answers something else than completions.
    """

    def __init__(
        self,
        model: str,
        stop_ids: Sequence[int],
        *,
        base_url: str,
        api_key_env: str | None = "OPENAI_API_KEY",
        max_concurrency: int = 16,
        requests_per_minute: float | None = None,
        timeout_s: float = 120,
        max_retries: int = 6,
        backoff_s: float = 0.5,
        tokenizer: Any = None,
        vllm_extensions: bool = True,
        uds: str | None = None,
    ):
        self.model = model
        self.stop_ids = sorted(set(stop_ids))
        self.tokenizer = tokenizer
        self.vllm_extensions = vllm_extensions
        self.endpoint = Endpoint(
            route(base_url, "/completions"),
            gives="completions",
            serves=f"the model {model!r}",
            api_key_env=api_key_env,
            max_concurrency=max_concurrency,
            requests_per_minute=requests_per_minute,
            timeout_s=timeout_s,
            max_retries=max_retries,
            backoff_s=backoff_s,
            uds=uds,
        )

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as replies come; closing the iterator cancels what is in flight."""
        warned = False
        bodies = [self._body(request, sampling) for request in requests]
        with closing(self.endpoint.ask(bodies, _parse_choice)) as choices:
            for index, choice in choices:
                if choice.token_ids is None and not warned:
                    log.warning("%s gives no token ids; they are re-encoded from the text", self.endpoint.url)
                    warned = True
                yield index, self._completion(choice)

    def next_logprobs(
        self, prompts: Sequence[list[int]], tokens: Sequence[int]
    ) -> Iterator[tuple[int, dict[int, float]]]:
        """Yield (index, {token: log-probability that it comes next}) of the given tokens after each prompt.

        One output token a prompt, whose keys and values the server may have cached (`prompt_logprobs` would turn its
        cache off). Only vLLM's server knows `logprob_token_ids` (0.32: up to 128).
        """
        asked = {"max_tokens": 1, "temperature": 0.0, "logprobs": 1, "logprob_token_ids": list(tokens)}
        asked |= {"model": self.model, "return_tokens_as_token_ids": True} | NEUTRAL_SAMPLING
        bodies = [asked | {"prompt": prompt} for prompt in prompts]
        with closing(self.endpoint.ask(bodies, lambda body: _parse_logprobs(body, tokens))) as found:
            yield from found

    def _completion(self, choice: _Choice) -> Completion:
        ids = self._encode(choice.text) if choice.token_ids is None else choice.token_ids
        return Completion(ids[:-1] if ids and ids[-1] in self.stop_ids else ids, choice.finish_reason)

    def _encode(self, text: str) -> list[int]:
        if self.tokenizer is None:
            raise self.endpoint.error(
                f"{self.endpoint.url} gives no token ids; use a vLLM server, or give a tokenizer to re-encode with"
            )
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": request.prompt_ids,
            "max_tokens": request.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed,
        }
        if self.vllm_extensions:
            body |= {"return_token_ids": True, **NEUTRAL_SAMPLING}
            if self.stop_ids:
                # These tokens alone end a response, as in the embedded engine.
                body |= {"stop_token_ids": self.stop_ids, "ignore_eos": True}
        return body


def _parse_choice(body: Any) -> _Choice | None:
    """choices[0] of a completions reply; None where the reply is anything else, or says nothing and not why."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    text, ids = choices[0].get("text") or "", choices[0].get("token_ids")
    listed = isinstance(ids, list) and all(isinstance(i, int) for i in ids)
    if not isinstance(text, str) or not (listed or (ids is None and "text" in choices[0])):
        return None
    word = choices[0].get("finish_reason")
    if not isinstance(word, str | None) or word == "error" or not (word or text or ids):
        return None
    return _Choice(text, ids, finish_reason(word))


def _parse_logprobs(body: Any, tokens: Sequence[int]) -> dict[int, float] | None:
    """{token: log-probability} of the first output token; None where the reply lacks one of them."""
    try:
        given = body["choices"][0]["logprobs"]["top_logprobs"][0]
        return {token: float(given[f"token_id:{token}"]) for token in tokens}
    except (KeyError, IndexError, TypeError, ValueError):
        return None
