"""Whether model and SAE can be what the configuration says, as far as names and small files tell: asked before anything
is loaded, downloaded or paid for."""

import json
import os
import re
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.adapters import adapter_advice

EMBEDDED = "SmolLM2-135M-Instruct"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
HUB_URL = re.compile(r"https?://[^/]+/([^/]+/[^/?#]+)")
# The first models of the hub had no organization; whose they are now, by how their names begin.
OWNERS = {
    **dict.fromkeys(("gpt2", "openai-gpt"), "openai-community"),
    **dict.fromkeys(("distilgpt2", "distilbert", "distilroberta"), "distilbert"),
    **dict.fromkeys(("roberta", "xlm-roberta"), "FacebookAI"),
    **{"bert": "google-bert", "t5": "google-t5", "ctrl": "Salesforce", "xlnet": "xlnet", "albert": "albert"},
}


def is_embedded(model_id: str) -> bool:
    """Whether the folder is that of the embedded model, which the workflow makes itself."""
    return Path(model_id).name == EMBEDDED and Path(model_id).parent.name == "models"


def check_model_id(model_id: str) -> None:
    """UserError where `model.id` is neither a folder with a model nor the id of one on the hub."""
    where = f"config, model.id: {model_id}"
    if Path(model_id).is_dir():
        if not (Path(model_id) / "config.json").is_file() and not is_embedded(model_id):
            raise UserError(
                f"{where} is a folder without config.json, so it holds no model; {_instead(Path(model_id))}"
            )
        return
    if is_embedded(model_id) or HUB_ID.fullmatch(model_id):
        return
    if url := HUB_URL.match(model_id):
        raise UserError(f"{where} is a web address; give {url[1]}")
    if "/" in model_id or model_id.startswith((".", "~")):
        raise UserError(f"{where} is no folder here and no Hugging Face id (organization/name)")
    owner = next((owner for start, owner in OWNERS.items() if re.match(rf"{start}(?![a-z0-9])", model_id)), None)
    full = f"; its full name is {owner}/{model_id}" if owner else ""
    raise UserError(
        f"{where} is no folder here, and a Hugging Face id has an organization in front (organization/name){full}"
    )


def _instead(folder: Path) -> str:
    """What to do about a folder without config.json."""
    if advice := adapter_advice(folder):
        return advice
    inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
    return f"give one of the folders in it: {', '.join(inside[:3])}" if inside else "give the folder that has it"


def model_config_file(model_id: str, revision: str | None) -> Path:
    """Where the model's config.json is on this machine, if it is: in its folder, or in the cache of the hub."""
    if Path(model_id).is_dir() or not HUB_ID.fullmatch(model_id):
        return Path(model_id) / "config.json"
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    folder = cache / f"models--{model_id.replace('/', '--')}"
    asked = revision or "main"
    named = folder / "refs" / asked
    commit = named.read_text(encoding="utf-8").strip() if named.is_file() else asked
    return folder / "snapshots" / commit / "config.json"


def in_json(file: Path, key: str) -> Any:
    """A value of a JSON object on disk; None where there is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        return None


def text_value(file: Path, key: str) -> Any:
    """A value of a model's config.json: its own, or that of the text model in it; None where there is none."""
    own = in_json(file, key)
    return (in_json(file, "text_config") or {}).get(key) if own is None else own
