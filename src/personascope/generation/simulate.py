"""Conversations of the model with a scripted user: the model answers turn by turn.

All samples of a script run side by side, so that each turn is one batch. The seed of a turn is a hash of the
experiment's seed, the sample and the turn, not of the script: a script and its control with persona pressure
from turn k on draw the same answers until then.

A message holds what the model wrote, with its reasoning in think tags where there is some: what of it the model sees
again in later turns is up to its template.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from personascope.backends import Backend, Completion, Request, Sampling
from personascope.errors import UserError
from personascope.formats.conversations import Simulation, simulation_user_turns
from personascope.generation.answers import read_answer, spoken
from personascope.models.spans import Message, prompt_ids

# finish(samples' requests) -> completions, in order: the backend, or what the store has of it.
Finish = Callable[[list[Request]], list[Completion]]


def turn_seed(seed: int, sample: int, turn: int) -> int:
    """31-bit seed of one answer."""
    digest = hashlib.sha256(f"{seed}/simulate/{sample}/{turn}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def simulate(
    tokenizer: Any, finish: Finish, script: Simulation, samples: int, *, seed: int, max_tokens: int, max_model_len: int
) -> list[list[Message]]:
    """`samples` conversations; UserError names the turn at which a conversation outgrows max_model_len.

    `reasoning` of a message: what the model thought where that is not in its content; it is not shown to the model.
    """
    system = [{"role": "system", "content": script.system}] if script.system else []
    conversations: list[list[Message]] = [list(system) for _ in range(samples)]
    thought: dict[tuple[int, int], str] = {}  # by sample and message
    for turn, text in enumerate(simulation_user_turns(script)):
        requests = []
        for sample, messages in enumerate(conversations):
            messages.append({"role": "user", "content": text})
            ids = prompt_ids(tokenizer, messages)
            if len(ids) >= max_model_len:
                raise UserError(
                    f"simulation {script.name}, user turn {turn}: the conversation has {len(ids)} tokens, "
                    f"generation.max_model_len is {max_model_len}; shorten the script or raise the limit"
                )
            room = min(max_tokens, max_model_len - len(ids))
            requests.append(Request(ids, turn_seed(seed, sample, turn), room, [*messages]))
        for sample, completion in enumerate(finish(requests)):
            split = read_answer(tokenizer, completion, requests[sample].prompt_ids)
            content = spoken(tokenizer, completion, split)
            if split.reasoning and content == split.text:
                thought[sample, len(conversations[sample])] = split.reasoning
            conversations[sample].append({"role": "assistant", "content": content})
    for (sample, index), reasoning in thought.items():
        conversations[sample][index]["reasoning"] = reasoning
    return conversations


def in_order(backend: Backend, requests: list[Request], sampling: Sampling) -> list[Completion]:
    """The backend's completions in the order of the requests."""
    finished = dict(backend.generate(requests, sampling))
    return [finished[i] for i in range(len(requests))]
