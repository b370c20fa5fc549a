"""Responses of one role: prompts to token ids once, generation on ids, one row a response.

Rows come in the order of `roles.build_prompts` (variant outer, question inner) and carry ``role``,
``system_prompt, prompt_index, question_id, question, response, conversation`` and
``response_token_ids, finish_reason, seed, prompt_exact`` (false where a server made the prompt with a template of
its own; ``reasoning`` beside it where the server gives some).
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from personascope.backends import Backend, Completion, Request, Sampling
from personascope.errors import UserError
from personascope.formats.roles import Prompt
from personascope.models.spans import prompt_ids

Row = dict[str, Any]


def row_seed(seed: int, prompt: Prompt) -> int:
    """31-bit seed of one row: a hash of the experiment's seed, role, variant and question."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{prompt.key}".encode()).digest()[:4]) >> 1


def build_requests(
    tokenizer: Any, prompts: Sequence[Prompt], *, seed: int, max_tokens: int, max_model_len: int
) -> list[Request]:
    """Requests for the engine; UserError names the row whose prompt the chat template does not hold, or that leaves no
    room for a response."""
    requests = []
    for prompt in prompts:
        row = f"role {prompt.role}, variant {prompt.prompt_index}, question {prompt.question.id}"
        try:
            ids = prompt_ids(tokenizer, prompt.messages)
        except UserError as error:
            raise UserError(f"{row}: {error}") from None
        room = max_model_len - len(ids)
        if room < 1:
            raise UserError(
                f"{row}: the prompt has {len(ids)} tokens, generation.max_model_len is {max_model_len}; shorten it or "
                "raise the limit"
            )
        requests.append(Request(ids, row_seed(seed, prompt), min(max_tokens, room), prompt.messages))
    return requests


def text_of(tokenizer: Any, completion: Completion) -> str:
    """A completion's answer as text: the server's own where its ids were made from it, else its ids decoded."""
    if completion.text is not None:
        return completion.text
    return tokenizer.decode(completion.token_ids, skip_special_tokens=True)


def response_row(tokenizer: Any, prompt: Prompt, request: Request, completion: Completion) -> Row:
    """The output row of one finished response."""
    text = text_of(tokenizer, completion)
    row = {
        "role": prompt.role,
        **prompt.keys,
        "system_prompt": prompt.system_prompt,
        "prompt_index": prompt.prompt_index,
        "question_id": prompt.question.id,
        "question": prompt.question.text,
        "response": text,
        "conversation": [*prompt.messages, {"role": "assistant", "content": text}],
        "response_token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        "seed": request.seed,
        "prompt_exact": completion.prompt_exact,
    }
    return row if completion.reasoning is None else row | {"reasoning": completion.reasoning}


def generate(
    tokenizer: Any,
    backend: Backend,
    prompts: Sequence[Prompt],
    requests: Sequence[Request],
    sampling: Sampling,
) -> Iterator[tuple[int, Row]]:
    """Yield (index, row) as responses finish."""
    for index, completion in backend.generate(requests, sampling):
        yield index, response_row(tokenizer, prompts[index], requests[index], completion)
