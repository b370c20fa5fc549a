"""The format of a causal test, causal/<cell>/{analysis}/{conversation}.json: the verdict and every number behind it.

``verdict``: supported | not supported | SAE too lossy | underpowered, or null where there is no test; ``reason``: why.
``effects``: of the patched features, each {mean, low, high, d, n, seeds_needed}: ``total`` (the turn generated anew),
``total_beyond_matched`` (the same minus the mean of the matched controls), ``direct`` (the turn's own tokens; null
where no layer behind the patch is kept). ``controls``: for each control the mean ``total`` and ``direct`` effect of its
draws, and how many are ``as_large``. ``seeds_needed``: seeds ``used``, and those that the ``observed`` and the smallest
``relevant`` effect need. ``sae_share``: what the SAE keeps of the residual score's change. ``fall``: what there was to
restore. ``notes``: what a reader must know. Beside these, for every arm and draw, ``direct`` and ``total`` with all
readings, and ``settings``, ``layers``, ``features``, ``balance``.

The generated texts stand in {conversation}.samples.jsonl beside it: ``arm``, ``draw``, ``sample``, ``seed``,
``question`` (the user's last message), and ``response``, ``reasoning``, ``response_token_ids``, ``answer_start``,
``answer_end``, ``finish_reason`` as in `formats.responses`; a judge reads them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.files import read_json

# What `summary.json` repeats under `causal`.
SHORT = ("verdict", "reason", "transition", "effects", "controls", "seeds_needed", "sae_share", "fall", "notes")


def read_causal(path: str | Path) -> dict[str, Any]:
    """The whole JSON; UserError where it is none."""
    content = read_json(path)
    if not isinstance(content, dict) or not set(SHORT) <= content.keys():
        raise UserError(f"{path}: no causal test; delete it and run again")
    return content


def short(content: Mapping[str, Any]) -> dict[str, Any]:
    """Its part in `summary.json`."""
    return {name: content[name] for name in SHORT}
