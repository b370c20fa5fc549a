"""Drift runs as the original's drift page reads them: `runs_manifest.json` and a folder a run beside it.

That page looks for `/runs/...` in the folder of the manifest, takes every score for a number and the SAE's id for
text, counts the assistant's messages as turns, and shows tokens as they are spelled. Ours say more; what they leave
open (the score of a turn without tokens, the id of an SAE without one), messages that the model has not read, and the
spelling of byte-level tokenizers have to be seen to here.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personascope.drift.bundle import conversation_hash
from personascope.drift.summary import read_summaries, summary_table
from personascope.errors import UserError
from personascope.explorer.text_runs import TextRuns
from personascope.formats.files import read_json, write_json

log = logging.getLogger(__name__)

FILES = ("conversation", "summary", "ui_bundle")
LOCAL = {"result"}  # files of a run that are not published


def publish_runs(
    summaries: Sequence[str | Path], manifest: str | Path, *, sae: str, sensitive: Collection[str] = ()
) -> None:
    """Write the runs of one analysis, and a manifest of those that have a result, alarms first.

    summaries: .../{conversation}/summary.json, beside the run's other files; sae: the SAE's name, for runs whose SAE
    has no id; sensitive: conversations that the page shows a warning with, besides those whose file has `sensitive:
    true` among its metadata. The first run is one that is not sensitive, where there is one. UserError names a damaged
    file.
    """
    folder = Path(manifest).parent / "runs"
    for path in map(Path, summaries):
        for name, content in _published(path.parent, sae).items():
            write_json(folder / path.parent.name / f"{name}.json", content)
    write_json(manifest, runs_manifest(read_summaries(summaries), sensitive))


def runs_manifest(summaries: Sequence[Mapping[str, Any]], sensitive: Collection[str] = ()) -> dict[str, Any]:
    """`runs_manifest.json` of {"conversation", "analysis", "content"} (of `read_summaries`), ranked as the summary is.

    conversation_name: its title, with the conversation's own name where another has the same title.
    """
    contents = {item["conversation"]: item["content"] for item in summaries}
    for failed in sorted(name for name, content in contents.items() if content["status"] != "ok"):
        log.warning("%s has no result and is not in the manifest: %s", failed, contents[failed]["error"])
    ranked = summary_table(summaries) if summaries else None
    order = [] if ranked is None else ranked[ranked["status"] == "ok"]["conversation"].tolist()
    titles = [contents[name]["conversation_name"] for name in order]
    runs = []
    for name, title in zip(order, titles, strict=True):
        run = {"id": name, "label": contents[name]["run_name"]}
        run["conversation_name"] = title if titles.count(title) == 1 else f"{title} ({name})"
        run |= {f"{file}_url": f"/runs/{name}/{file}.json" for file in ("ui_bundle", "conversation", "summary")}
        flagged = name in sensitive or contents[name].get("metadata", {}).get("sensitive") is True
        runs.append(run | ({"sensitive": True} if flagged else {}))
    shown = [run["id"] for run in runs if not run.get("sensitive")] or [run["id"] for run in runs]
    return {"default_run_id": shown[0] if shown else None, "runs": runs}


def _published(run: Path, sae: str) -> dict[str, Any]:
    """{file: content} of a run's folder as it is published."""
    contents = {name: read_json(run / f"{name}.json") for name in FILES}
    try:
        bundle, summary = contents["ui_bundle"], contents["summary"]
        scores = [row for row in bundle["q1"]["turn_scores"] if row["score"] is not None]
        messages = _read_by_the_model(contents["conversation"], summary.get("dropped_messages", 0))
        meta = bundle["run_meta"] | {"sae_id": bundle["run_meta"]["sae_id"] or sae}
        meta["conversation_hash"] = conversation_hash(messages)
        tokens = {"token_localization": _spelled_out(bundle["q3"]["token_localization"])}
        files = {name: file for name, file in summary["files"].items() if name not in LOCAL}
    except (KeyError, TypeError):
        raise UserError(f"{run}: not the files of a drift run; delete the folder and run again") from None
    return {
        # An object, as the original writes it; a list is read too.
        "conversation": {"conversation": messages},
        "summary": summary | {"files": files},
        "ui_bundle": bundle
        | {"run_meta": meta, "q1": bundle["q1"] | {"turn_scores": scores}, "q3": bundle["q3"] | tokens},
    }


def _read_by_the_model(messages: list[dict[str, Any]], dropped: int) -> list[dict[str, Any]]:
    """The messages without those that were taken off the front to fit the context; a system message stays."""
    kept = sum(message["role"] == "system" for message in messages[:1])
    return [*messages[:kept], *messages[kept + dropped :]]


def _spelled_out(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns with the text of each token in place of its spelling; where a character takes several tokens, the first
    has it and the others are empty."""
    tokens = [token for turn in turns for token in turn["tokens"]]
    lengths = [len(turn["tokens"]) for turn in turns]
    runs = TextRuns.of(tokens, np.repeat(np.arange(len(turns)), lengths))
    texts = dict(zip(runs.starts.tolist(), runs.texts, strict=True))
    ends = np.cumsum(lengths).tolist()
    return [
        {**turn, "tokens": [texts.get(place, "") for place in range(end - length, end)]}
        for turn, length, end in zip(turns, lengths, ends, strict=True)
    ]
