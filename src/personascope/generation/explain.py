"""A description of a feature by an LLM that is shown texts in which it is active; each answer is kept for good.

What an LLM says of a feature is a guess from some texts, as any label is; nothing here measures how good it is.
"""

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope.backends import Request, Sampling
from personascope.backends.chat import ChatClient
from personascope.errors import UserError
from personascope.formats.descriptions import Descriptions, read_contexts, write_descriptions
from personascope.formats.files import content_key, read_json, write_json
from personascope.formats.responses import answer_of

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SHOWN = 10  # texts of a feature
MARKED = 0.5  # of the peak: the pieces from which on are marked
MAX_TOKENS, LONGEST = 60, 120  # of an answer: tokens asked for, characters kept
SAVE_S = 10.0
INSTRUCTION = (
    "A unit inside a language model is active on some pieces of text and silent on all others. Below are texts in "
    "which it is active, the strongest first; the pieces on which it is most active stand between \u00ab and \u00bb. "
    "Say in at most ten words what these marked pieces have in common: a word, a kind of word, a place in the "
    "sentence, a topic, a tone. Be specific, and do not go beyond the texts. Answer with the description alone. Where "
    "they have nothing in common, answer: unclear."
)


def write_explained(
    features: Sequence[int], contexts: str, options: Mapping[str, Any], store: str, output: str
) -> None:
    """Write a descriptions cache of these features; what the store has is not asked for again.

    contexts: contexts.parquet; options: `model`, and `backend_options` of the backend chat. UserError where the
    endpoint is down or refuses; what was answered until then is kept.
    """
    client = _client(options)
    table, _ = read_contexts(contexts, features)
    prompts = {int(str(feature)): prompt_of(rows) for feature, rows in table.groupby("feature", sort=True)}
    keys = {feature: content_key([options["model"], prompt]) for feature, prompt in prompts.items()}
    file = Path(store) / "explanations" / f"{re.sub('[^A-Za-z0-9._-]+', '_', options['model'])}.json"
    kept: dict[str, str] = read_json(file) if file.exists() else {}
    missing = [feature for feature in prompts if keys[feature] not in kept]
    log.info("%s: %d features, %d are in the store", options["model"], len(prompts), len(prompts) - len(missing))
    requests = [Request(prompt_ids=[], seed=0, max_tokens=MAX_TOKENS, messages=prompts[f]) for f in missing]
    saved = time.monotonic()
    try:
        for index, completion in client.generate(requests, Sampling(temperature=0.0, top_p=1.0)):
            kept[keys[missing[index]]] = answer_of(completion.text or "")
            if time.monotonic() - saved >= SAVE_S:
                write_json(file, kept)
                saved = time.monotonic()
    finally:
        if missing:
            write_json(file, kept)
    said: Descriptions = {f: {"description": description_of(kept[key]), "url": None} for f, key in keys.items()}
    write_descriptions(output, said)


def _client(options: Mapping[str, Any]) -> ChatClient:
    try:
        return ChatClient(options["model"], **options["backend_options"])
    except TypeError as error:
        raise UserError(f"config, descriptions.llm.backend_options: {error}") from None


def prompt_of(rows: "pd.DataFrame") -> list[dict[str, str]]:
    """The messages that show a feature's texts, a line each; rows: of contexts.parquet, in its order."""
    lines = []
    for row in rows.head(SHOWN).to_dict("records"):
        values = list(row["values"])
        peak = max(values)
        marks = [value >= MARKED * peak for value in values]
        text = "".join(f"\u00ab{t}\u00bb" if mark else t for t, mark in zip(row["tokens"], marks, strict=True))
        lines.append(json.dumps(text.replace("\u00bb\u00ab", ""), ensure_ascii=False))
    return [{"role": "user", "content": f"{INSTRUCTION}\n\n" + "\n".join(lines)}]


def description_of(answer: str) -> str | None:
    """The answer in one line, without quotes around it; None where the LLM finds nothing."""
    text = " ".join(answer.split()).strip("\"'\u201c\u201d ").rstrip(".")
    return None if not text or text.casefold() == "unclear" else text[:LONGEST]
