"""Which conversations of a run could not be analyzed, for its last lines and for `personascope status`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.conversation_files import not_analyzed
from personascope.formats.files import read_json


def unanalyzed(run: Mapping[str, Any]) -> dict[str, str]:
    """{conversation: reason}, from the settings of a run (`Experiment.settings`): those that can't be read, and those
    whose runs say that they failed. One that fails under some of the analyses alone has these beside its name."""
    unread = run.get("unread", {})  # not in the note of an older version's run
    failed: dict[tuple[str, str], list[str]] = {}
    for analysis in run["analyses"]:
        folder = Path(run["results"], "drift", run["mode"], f"{run['model']}_{run['sae']}", analysis)
        for name in run["conversations"]:
            if name not in unread and (reason := _reason(folder / name / "summary.json")):
                failed.setdefault((name, reason), []).append(analysis)
    said = dict(unread)
    for (name, reason), analyses in failed.items():
        some = "" if len(analyses) == len(run["analyses"]) else f" ({', '.join(analyses)})"
        said[f"{name}{some}"] = reason
    return said


def last_lines(run: Mapping[str, Any]) -> list[str]:
    """What a run says at its end: these conversations, where there are some."""
    said = not_analyzed(unanalyzed(run), len(run["conversations"]))
    return [said] if said else []


def _reason(file: Path) -> str | None:
    """Why a run failed; None where it did not, or is not there yet."""
    if not file.is_file():
        return None
    try:
        summary = read_json(file)
    except UserError as error:
        return str(error)
    if not isinstance(summary, dict):
        return f"{file}: a summary is an object, found {type(summary).__name__}"
    return str(summary.get("error")) if summary.get("status") == "failed" else None
