"""A model whose persona has a known cause: a Llama whose blocks add nothing, so that h is a token's embedding.

Dimension 0 is the persona: letters of ASSISTANT have it at +2, those of PERSONA at -2, and the output layer writes more
of what it reads there. Dimension 2 goes with it in every letter, and nothing reads it: it is correlated, and no cause.
Dimension 1 is 1 everywhere, so that the output layer can keep to the letters; the others are noise.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import save_npz
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import causal, extract_conversation
from personascope.models.loading import ModelSpec
from personascope.models.saes import SAESpec

WIDTH, LAYERS = 16, [0, 1, 2]
ASSISTANT, PERSONA = "BCDFGH", "QRTUVW"
NAME = "talk"
TALK = [
    {"role": "user", "content": "xyz"},
    {"role": "assistant", "content": "BCDFGHBCDFGHBCDFGHBCDFGH"},
    {"role": "user", "content": "zyx"},
    {"role": "assistant", "content": "QRTUVWQRTUVWQRTUVWQRTUVW"},
]


def planted_model(tokenizer: Any, folder: Path) -> str:
    """The model and its tokenizer on disk."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=8,
        num_hidden_layers=len(LAYERS),
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    embeddings = torch.rand(len(tokenizer), WIDTH)
    embeddings[:, :3] = torch.tensor([0.0, 1.0, 0.0])
    output = torch.zeros(len(tokenizer), WIDTH)
    output[:, 1] = -40.0
    for letters, sign in ((ASSISTANT, 1.0), (PERSONA, -1.0)):
        ids = tokenizer.convert_tokens_to_ids(list(letters))
        embeddings[ids, 0] = embeddings[ids, 2] = 2 * sign
        output[ids, 0], output[ids, 1] = sign, 0.0
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.o_proj.weight.zero_()  # type: ignore[union-attr, operator]
            block.mlp.down_proj.weight.zero_()  # type: ignore[union-attr, operator]
        model.model.embed_tokens.weight.copy_(embeddings)
        model.lm_head.weight.copy_(output)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def planted_sae(folder: Path, seen: Sequence[int] = range(WIDTH)) -> SAESpec:
    """Features 2 i and 2 i + 1 are the positive and the negative part of dimension i: it rebuilds the dimensions that
    it has seen, and no other. Read behind block 0."""
    from sae_lens import StandardSAE, StandardSAEConfig

    sae = StandardSAE(StandardSAEConfig(d_in=WIDTH, d_sae=2 * WIDTH, apply_b_dec_to_input=False))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.zero_()
        for i in seen:
            for feature, sign in ((2 * i, 1.0), (2 * i + 1, -1.0)):
                sae.W_enc[i, feature] = sae.W_dec[feature, i] = sign
    sae.cfg.metadata.hook_name = "blocks.0.hook_resid_post"
    sae.save_model(folder)
    return SAESpec(path=str(folder))


class Planted:
    """Everything that the causal test reads, on disk. dimension: of the features in which the roles differ, so that the
    analysis blames them; axis: the residual axis at every layer."""

    def __init__(self, folder: Path, tokenizer: Any, dimension: int = 0, seen: Sequence[int] = range(WIDTH)) -> None:
        self.folder = folder
        self.loaded = Loaded()
        self.common: dict[str, Any] = {
            "model": ModelSpec(planted_model(tokenizer, folder / "model"), dtype="float32"),
            "device": "cpu",
            "store": str(folder / "store"),
            "code": "c",
            "sae": planted_sae(folder / "sae", seen),
            "residual_layers": LAYERS,
            "chunk_tokens": 512,
            "too_long": "error",
        }
        features = np.full((3, 2 * WIDTH), 0.5, np.float32)
        features[:2, 2 * dimension], features[2, 2 * dimension + 1] = 2.0, 2.0
        RoleMatrix(features, ["assistant", "default", "pirate"], np.full(3, 9)).save(folder / "mean.npz")
        axis = np.eye(WIDTH, dtype=np.float32)[0]
        save_npz(folder / "axis.npz", **{f"diff_residual_layer_{layer}": axis for layer in LAYERS})
        rows = [f"residual layer {layer},{layer != 2},{'' if layer != 2 else 'AUC 0.7'}" for layer in LAYERS]
        (folder / "agreement.csv").write_text("\n".join(["space,interpretable,reason", "sae,True,", *rows]) + "\n")
        (folder / f"{NAME}.json").write_text(json.dumps(TALK))
        request = extract_conversation.Request(
            **self.common,
            conversation_file=str(folder / f"{NAME}.json"),
            tokens=str(folder / "tokens.parquet"),
            user_means=str(folder / "user.npz"),
        )
        extract_conversation.run(self.loaded, lambda line: None, request)

    def test(self, **sizes: Any) -> dict[str, Any]:
        """The causal test's JSON."""
        given: dict[str, Any] = {"top": 2, "controls": 3, "seeds": 16, "max_tokens": 12, "read_layers": [], "seed": 0}
        request = causal.Request(
            **self.common,
            **given | {"temperature": 1.0, "top_p": 1.0, "max_model_len": 512} | sizes,
            tokens=str(self.folder / "tokens.parquet"),
            matrix=str(self.folder / "mean.npz"),
            axes=str(self.folder / "axis.npz"),
            agreement=str(self.folder / "agreement.csv"),
            causal=str(self.folder / "causal.json"),
            samples=str(self.folder / "samples.jsonl"),
            analysis="default",
            conversation=NAME,
            model_name="planted",
            options={"transform": "log1p"},
        )
        causal.run(self.loaded, print, request)
        return json.loads((self.folder / "causal.json").read_text())
