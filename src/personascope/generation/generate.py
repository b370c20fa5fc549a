"""Responses of one role: prompts to token ids once, generation on ids, one row a response.

Rows come in the order of `roles.build_prompts` (variant outer, question inner) and carry ``role``,
``system_prompt, prompt_index, question_id, question, response, conversation`` and
``reasoning, response_token_ids, answer_start, answer_end, finish_reason, seed, prompt_exact`` (see
`formats.responses`; the last is false where a server made the prompt with a template of its own).
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from personascope.backends import Backend, Completion, Request, Sampling
from personascope.errors import UserError
from personascope.formats.roles import Prompt
from personascope.generation.answers import read_answer
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


def response_row(tokenizer: Any, prompt: Prompt, request: Request, completion: Completion) -> Row:
    """The output row of one finished response."""
    split = read_answer(tokenizer, completion, request.prompt_ids)
    return {
        "role": prompt.role,
        **prompt.keys,
        "system_prompt": prompt.system_prompt,
        "prompt_index": prompt.prompt_index,
        "question_id": prompt.question.id,
        "question": prompt.question.text,
        "response": split.text,
        "reasoning": split.reasoning,
        "conversation": [*prompt.messages, {"role": "assistant", "content": split.text}],
        "response_token_ids": completion.token_ids,
        "answer_start": split.answer[0],
        "answer_end": split.answer[1],
        "finish_reason": completion.finish_reason,
        "seed": request.seed,
        "prompt_exact": completion.prompt_exact,
    }


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
