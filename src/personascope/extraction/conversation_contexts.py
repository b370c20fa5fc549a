"""Texts of conversations in which features are active, from their tokens: an assistant turn is a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from personascope.errors import UserError
from personascope.extraction.contexts import Active, Collector
from personascope.formats.contexts import Texts, save_activity, save_contexts
from personascope.formats.tokens import TokenActivations, read_activations, read_metadata


def write_conversation_contexts(tokens: Sequence[str], k: int, contexts: str, activity: str) -> None:
    """From the tokens files of conversations to their contexts; one that could not be read is left out. UserError where
    they are of SAEs of different width."""
    collector: Collector | None = None
    described: dict[str, Any] = {}
    ids: list[np.ndarray] = []
    names, said, pieces = [], [], {}
    for path in tokens:
        metadata = read_metadata(path)
        if metadata.get("error"):
            continue
        found = read_activations(path)
        if collector is None:
            described = {key: value for key, value in metadata.items() if key not in ("conversation", "turns", "error")}
            collector = Collector(found.width, k, "conversations")
        if found.width != collector.d_sae:
            raise UserError(f"{path}: {found.width} features, the conversations before have {collector.d_sae}")
        counts = np.bincount(found.turn, minlength=found.n_turns).tolist()
        collector.add(range(len(names), len(names) + found.n_turns), counts, _active(found))
        talk = metadata["conversation"]
        names += [talk["name"]] * found.n_turns
        said += [_said_before(talk["messages"], index) for index in found.message_index.tolist()]
        ids += np.split(found.token_ids, np.cumsum(counts)[:-1])
        pieces |= dict(zip(found.token_ids.tolist(), found.tokens, strict=True))
    if collector is None:
        raise UserError(
            "no conversation could be read, so that there are no contexts; see the logs of extract_conversation"
        )
    lengths = [len(one) for one in ids]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    save_contexts(contexts, collector.contexts(), described)
    texts = Texts(np.concatenate(ids).astype(np.int32), offsets, names, said, pieces)
    save_activity(activity, collector.activity(), texts, described)


def _active(found: TokenActivations) -> Active:
    """All activations, each with its turn and its place in it."""
    token = np.repeat(np.arange(len(found)), np.diff(found.offsets))
    starts = np.searchsorted(found.turn, np.arange(found.n_turns))
    text = found.turn[token].astype(np.int64)
    return Active(text, token - starts[text], found.indices.astype(np.int64), found.values)


def _said_before(messages: Sequence[dict[str, Any]], index: int) -> str:
    """The last message of the user before an assistant turn; "" where there is none."""
    before = [message for message in messages[:index] if message["role"] == "user"]
    return str(before[-1]["content"]) if before else ""
