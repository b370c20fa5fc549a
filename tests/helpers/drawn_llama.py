"""A tiny Llama whose weights NumPy draws, so that it is the same in any environment, and vectors to steer it with."""

from typing import Any

import numpy as np

D, VOCABULARY = 16, 41
IDS = [[3, 14, 15, 9, 26, 5, 35]]
VECTORS = np.random.default_rng(7).normal(size=(2, D)).astype(np.float32)


def drawn_llama() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=D,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    rng = np.random.default_rng(11)
    for _, parameter in sorted(model.named_parameters()):
        drawn = rng.normal(size=tuple(parameter.shape)) * 0.3 + (parameter.dim() == 1)
        parameter.copy_(torch.tensor(drawn, dtype=torch.float32))
    return model
