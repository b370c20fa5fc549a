"""The model opened for reading in a notebook: responses in, residual means and persona vectors out.

reader = ResidualReader("results/models/SmolLM2-135M-Instruct")
vectors = reader.persona_vectors(load_responses("responses.json", system_prompts), reader.layer_at(0.65))
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from personascope.errors import UserError
from personascope.extraction.items import make_item
from personascope.extraction.readings import read_layers
from personascope.formats.directions import Directions
from personascope.formats.files import iter_jsonl
from personascope.formats.importers import read_cache
from personascope.formats.layers import LAYER_CONVENTION
from personascope.models.hookpoints import decoder_layers
from personascope.models.loading import (
    ModelSpec,
    context_length,
    d_model,
    load_model,
    load_tokenizer,
    model_identity,
)

# {role: [(system prompt, question, response), ...]}
Responses = dict[str, list[tuple[str, str, str]]]


def load_responses(path: str | Path, system_prompts: Mapping[str, str] | None = None) -> Responses:
    """Responses by role: {role: [(system prompt, question, response), ...]}.

    path: a cache (JSON: {persona: {question: response}}, or a list of entries), a role's responses (.jsonl), or a
    folder of these. system_prompts: {persona: system prompt} for a cache that does not say them; "" is none.
    UserError names what is missing.
    """
    path = Path(path)
    found: Responses = {}
    if path.is_dir() or path.suffix == ".jsonl":
        for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
            rows = list(iter_jsonl(file))
            if missing := {"system_prompt", "question", "response"} - set().union(*rows[:1]):
                raise UserError(f"{file}: no {', '.join(sorted(missing))} in its first row")
            found[file.stem] = [(row["system_prompt"], row["question"], row["response"]) for row in rows]
    else:
        for entry in read_cache(path):
            system = entry.system_prompt
            if system is None:
                if system_prompts is None or entry.persona not in system_prompts:
                    raise UserError(f"{entry.where}: the system prompt is not known; give system_prompts")
                system = system_prompts[entry.persona]
            found.setdefault(entry.persona, []).append((system, entry.question, entry.response))
    if not found:
        raise UserError(f"{path}: holds no responses")
    return found


class ResidualReader:
    """A model whose residual stream is read; it is loaded when it is first needed.

    model: a Hugging Face id or a folder. batch_tokens: padded tokens of a forward pass, which bounds memory.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "float32",
        device: str = "auto",
        revision: str | None = None,
        batch_tokens: int = 2048,
    ):
        self.spec = ModelSpec(model, revision=revision, dtype=dtype, device=device)
        self.batch_tokens = batch_tokens

    @cached_property
    def model(self) -> Any:
        return load_model(self.spec)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.spec)

    @property
    def n_layers(self) -> int:
        return len(decoder_layers(self.model))

    def layer_at(self, fraction: float = 0.65) -> int:
        """The layer at that part of the depth, int(n_layers * fraction + 0.5)."""
        layer = int(self.n_layers * fraction + 0.5)
        if not 0 <= layer < self.n_layers:
            raise UserError(f"fraction {fraction} is layer {layer}; the model has layers 0 to {self.n_layers - 1}")
        return layer

    def response_means(
        self, system_prompts: Sequence[str], questions: Sequence[str], responses: Sequence[str], layer: int
    ) -> Tensor:
        """float32 [n, d_model]: the mean residual stream over each response's tokens, at the output of block `layer`.

        The three lists belong together, one entry a response; an empty system prompt is none. UserError names the
        response that has no token, or does not fit the model's context.
        """
        return self._means(list(zip(system_prompts, questions, responses, strict=True)), [layer])[:, 0]

    def persona_vectors(self, responses: Responses, layer: int) -> dict[str, Tensor]:
        """{role: float32 [d_model]}: the mean over a role's responses of their means."""
        return {role: self._role_means(role, rows, [layer]).mean(0)[0] for role, rows in responses.items()}

    def directions(self, responses: Responses, layers: Sequence[int]) -> Directions:
        """The same at several layers, with what `save_directions` writes beside them."""
        vectors = {role: self._role_means(role, rows, layers).mean(0).numpy() for role, rows in responses.items()}
        metadata = {
            "kind": "persona",
            "centered": False,
            "model": self.spec.id,
            "weights": model_identity(self.spec),
            "dtype": self.spec.dtype,
            "token_selection": "response_only",
            "layer_convention": LAYER_CONVENTION,
            "n_responses": {role: len(rows) for role, rows in responses.items()},
        }
        return Directions(vectors, list(layers), metadata)

    def _role_means(self, role: str, rows: Sequence[tuple[str, str, str]], layers: Sequence[int]) -> Tensor:
        try:
            return self._means(rows, layers)
        except UserError as error:
            raise UserError(f"{role}, {error}") from None

    def _means(self, rows: Sequence[tuple[str, str, str]], layers: Sequence[int]) -> Tensor:
        """float32 [n, n_layers, d_model]."""
        if outside := [layer for layer in layers if not 0 <= layer < self.n_layers]:
            raise UserError(f"layer {outside[0]}: the model has layers 0 to {self.n_layers - 1}")
        items = []
        for i, (system, question, response) in enumerate(rows):
            messages = [{"role": "system", "content": system}] if system else []
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
            try:
                item = make_item(self.tokenizer, messages, "response_only", context_length(self.model))
            except UserError as error:
                raise UserError(f"response {i}: {error}") from None
            if not item.n_selected:
                raise UserError(f"response {i}: it has no token; leave it out")
            items.append(item)
        means = torch.zeros(len(items), len(layers), d_model(self.model))
        for i, readings in read_layers(self.model, items, layers, self.batch_tokens):
            means[i] = torch.from_numpy(readings[0])
        return means
