"""Loading a causal language model and its tokenizer, and saying exactly which one it is.

Layer convention: layer k is the OUTPUT of decoder block k, counted from 0 (SAELens
``blocks.k.hook_resid_post``, Hugging Face ``hidden_states[k + 1]``).
"""

import hashlib
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from personascope.errors import UserError
from personascope.formats.adapters import adapter_advice
from personascope.formats.layers import LAYER_CONVENTION as LAYER_CONVENTION
from personascope.models.hub import not_here, silence
from personascope.models.stops import template_stops
from personascope.models.templates import Template, use_template
from personascope.models.tokenizers import as_its_file_says

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelSpec:
    """Which model, and how it is loaded: a Hugging Face id or a local folder; template: how conversations are written.

    A template may be given as a dict of its fields.
    """

    id: str
    revision: str | None = None
    dtype: str = "bfloat16"
    device: str = "auto"
    device_map: str | None = None
    trust_remote_code: bool = False
    template: Template = field(default_factory=Template)

    def __post_init__(self) -> None:
        if isinstance(self.template, dict):
            object.__setattr__(self, "template", Template(**self.template))


def choose_device(device: str) -> str:
    """ "auto" is cuda where there is one, else mps, else cpu."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _source(spec: ModelSpec) -> dict[str, Any]:
    local = Path(spec.id).is_dir()
    if not local and (spec.id.startswith((".", "/")) or spec.id.count("/") > 1):
        raise UserError(f"model.id: {spec.id} is no folder here and no Hugging Face id")
    if local and not (Path(spec.id) / "config.json").is_file() and (advice := adapter_advice(Path(spec.id))):
        raise UserError(f"model.id: {spec.id} is a folder without config.json; {advice}")
    here = local or silence() is not None
    return {"revision": spec.revision, "trust_remote_code": spec.trust_remote_code, "local_files_only": here}


def _load_error(spec: ModelSpec, error: Exception) -> UserError:
    text = " ".join(str(error).split())
    if "gated" in text.lower():
        return UserError(f"model.id: {spec.id} is gated; accept its license on its page and set HF_TOKEN")
    if not Path(spec.id).is_dir() and isinstance(error, OSError) and (reason := silence()):
        return UserError(f"model.id: {not_here(spec.id, reason)}")
    return UserError(f"model.id: {spec.id} cannot be loaded: {text[:300]}")


def load_tokenizer(spec: ModelSpec) -> Any:
    """The model's fast tokenizer; UserError where there is none, or it has no chat template."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.id, **_source(spec))
    except (OSError, ValueError, ImportError) as error:
        raise _load_error(spec, error) from None
    if tokenizer.is_fast:
        tokenizer = as_its_file_says(tokenizer, spec.id, _source(spec))
    else:
        raise UserError(f"model.id: {spec.id} has no fast tokenizer, which spans need (character offsets)")
    if not tokenizer.chat_template:
        raise UserError(f"model.id: the tokenizer of {spec.id} has no chat template; use an instruction-tuned model")
    use_template(tokenizer, spec.template)
    return tokenizer


def load_model(spec: ModelSpec) -> Any:
    """The causal language model in eval mode on its device; UserError where it is absent, gated or does not fit."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from personascope.models.attention import use_cpu_attention
    from personascope.models.trial import TRIED, require_readable

    disable_progress_bar()  # logs are files
    if spec.dtype not in DTYPES:
        raise UserError(f"model.dtype: {spec.dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    started = time.perf_counter()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            spec.id, dtype=DTYPES[spec.dtype], device_map=spec.device_map, **_source(spec)
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _load_error(spec, error) from None
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # the fast paths leave Gemma 2's cap on attention scores out
    if spec.device_map is None:
        model.to(choose_device(spec.device))
    use_cpu_attention(model)
    model.requires_grad_(False)
    model.eval()
    if model.config.model_type not in TRIED:
        require_readable(model)
    log.info("loaded model %s (%s) in %.1f s", spec.id, spec.dtype, time.perf_counter() - started)
    return model


def stop_ids(spec: ModelSpec, tokenizer: Any) -> list[int]:
    """Token ids that end a response: those of generation_config.json, config.json and the tokenizer, and the marks that
    the chat template writes behind an answer."""
    from transformers import GenerationConfig, PretrainedConfig

    # As the files have it: the classes of transformers have end tokens of their own.
    sources = {
        "generation_config.json": lambda: GenerationConfig.from_pretrained(spec.id, **_source(spec)).to_dict(),
        "config.json": lambda: PretrainedConfig.get_config_dict(spec.id, **_source(spec))[0],
    }
    found = [tokenizer.eos_token_id, *template_stops(tokenizer)]
    for name, read in sources.items():
        try:
            config = read()
        except OSError:
            log.debug("%s has no %s", spec.id, name)
            continue
        found += [part.get("eos_token_id") for part in (config, config.get("text_config") or {})]
    return sorted({i for ids in found for i in (ids if isinstance(ids, list) else [ids]) if i is not None})


def d_model(model: Any) -> int:
    """Width of the residual stream."""
    return model.config.get_text_config().hidden_size


def context_length(model_or_config: Any) -> int | None:
    """How many tokens the model was made for, where its config says so."""
    config = getattr(model_or_config, "config", model_or_config)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def model_identity(spec: ModelSpec) -> str:
    """What the weights are: the commit of a hub model, or a hash over the files of a local folder.

    Hashing 54 GB takes minutes, so digests are remembered beside nothing but (size, mtime) of each file
    for the life of the process; the tokenizer and template files count as well.
    """
    folder = Path(spec.id)
    if not folder.is_dir():
        from transformers.utils.hub import cached_file, extract_commit_hash

        where = {key: value for key, value in _source(spec).items() if key != "trust_remote_code"}
        try:
            file = cached_file(spec.id, "config.json", **where)
        except (OSError, ValueError) as error:
            raise _load_error(spec, error) from None
        return f"{spec.id}@{extract_commit_hash(file, None) or spec.revision or 'unknown'}"
    digest = hashlib.sha256()
    for file in sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")):
        digest.update(json.dumps([file.name, _file_digest(file)]).encode())
    return f"sha256:{digest.hexdigest()}"


_DIGESTS: dict[tuple[str, int, int], str] = {}


def _file_digest(file: Path) -> str:
    status = file.stat()
    key = (str(file.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _DIGESTS:
        with file.open("rb") as opened:
            _DIGESTS[key] = hashlib.file_digest(opened, "sha256").hexdigest()
    return _DIGESTS[key]
