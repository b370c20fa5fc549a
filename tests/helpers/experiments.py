"""Experiments of small configurations, in a folder that the fixture `folder` of tests/runs has filled."""

from pathlib import Path
from typing import Any

from yaml import safe_load

from personascope.runs.experiment import Experiment, read_experiment

ROOT = Path(__file__).parents[2]
SCHEMA = safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
PIRATE = "resources/roles/pirate.json"
QUESTIONS = "resources/questions.jsonl"
SAE = "resources/saes/tiny_layer_1"
CONFIG: dict[str, Any] = {"model": {"id": "org/tiny"}, "sae": {"path": SAE}}


def merged(config: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """As Snakemake merges overlays: key by key, lists as wholes."""
    both = {
        key: merged(config[key], value)
        for key, value in overlay.items()
        if isinstance(value, dict) and isinstance(config.get(key), dict)
    }
    return config | overlay | both


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def read(*overlays: dict[str, Any]) -> Experiment:
    config = merged(CONFIG, {"generation": {"variants": [0, 1]}})
    for overlay in overlays:
        config = merged(config, overlay)
    return read_experiment(config, SCHEMA)
