"""LoRA adapters: folders that look like a model's and hold only changes of one."""

import json
from pathlib import Path


def adapter_advice(folder: Path) -> str | None:
    """What a folder of an adapter is, and what to do; None for any other."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    named = f"its base model {base}" if base else "its base model"
    return (
        f"it is a LoRA adapter: merge it into {named} (merge_and_unload of peft) and save that with its tokenizer, "
        "then give that folder"
    )
