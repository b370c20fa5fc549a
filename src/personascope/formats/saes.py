"""What an SAE says of itself, in its cfg.json or in SAELens's list of releases, read without torch."""

import json
import re
from pathlib import Path
from typing import Any

from personascope.errors import UserError

CONFIG = "cfg.json"
# How activations are made ready for the SAE, where that is no part of its weights and of its own code, and what to do.
UNFOLDED = {
    "expected_average_only_in": "in SAELens fold it with sae.fold_activation_norm_scaling_factor(s), s the factor of "
    "its training (in activation_scaler.json of that run; else sqrt(d_in) / the mean norm of the activations)",
    "covariance_whitening": "in SAELens fold it with sae.fold_activation_whitening(...), the matrices of its training",
}
# Names of TransformerLens, and what the hub calls the same weights.
ALIASES = {"gpt2-small": "gpt2", "mistral-7b": "mistral-7b-v0-1"}


def read_config(folder: str | Path) -> dict[str, Any]:
    """The SAE's cfg.json; {} where there is none that can be read."""
    try:
        config = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def trained_on(config: dict[str, Any]) -> str | None:
    """The model that an SAE's configuration names, in either of SAELens's layouts."""
    metadata = config.get("metadata")
    name = metadata.get("model_name") if isinstance(metadata, dict) else None
    return name or config.get("model_name")


def require_folded(normalize_activations: str | None, where: str) -> None:
    """UserError where the SAE's inputs must be scaled by a factor that its weights do not have."""
    if what_to_do := UNFOLDED.get(str(normalize_activations)):
        raise UserError(
            f"{where}: normalize_activations is {normalize_activations}, and the scale is not in its weights: its "
            f"features would be those of other activations; {what_to_do}, save it, and name that folder in sae.path"
        )


def other_model(name: str | None, model_id: str) -> str | None:
    """What to say where an SAE was trained on a model `name` that is not `model_id`; None where it is, or has no name.

    Organizations, case and punctuation do not count. Of a local folder, each part of its path and the name in its
    config.json may be the model's.
    """
    if not name or _plain(name) in {_plain(known) for known in _names(model_id)}:
        return None
    return (
        f"the SAE was trained on {name}, the model is {model_id}: its features may mean little there; see how much of "
        "the variance it leaves unexplained, in the logs of extract"
    )


def _names(model_id: str) -> list[str]:
    """What a model may be called by its id or its folder."""
    folder = Path(model_id)
    if not folder.is_dir():
        return [folder.name]
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    # "models--org--name" is a folder of the Hugging Face cache.
    parts = [part.split("--")[-1] for part in folder.resolve().parts]
    return [*parts, Path(str(config.get("_name_or_path") or "")).name]


def _plain(name: str) -> str:
    """A model's name without its organization, in one spelling."""
    spelled = re.sub(r"[^a-z0-9]+", "-", name.rsplit("/", 1)[-1].lower()).removeprefix("meta-")
    return ALIASES.get(spelled, spelled)
