"""Tiny random models of the text architectures of the installed transformers, by type."""

import dataclasses
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

VOCABULARY, WIDTH, LAYERS = 48, 32, 4
# What a field of a configuration is set to where it has one of that name.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "text_vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "embedding_size", "lru_width"), WIDTH),
    **dict.fromkeys(("word_embed_proj_dim", "conv_dim"), WIDTH),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff", "decoder_ffn_dim", "encoder_ffn_dim"), 40),
    **dict.fromkeys(("ffn_hidden_size", "intermediate_size_mlp"), 40),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    "moe_shared_expert_intermediate_size": 24,
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    "encoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_length"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts", "first_k_dense_replace"), 1),
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "qk_head_dim": 12,
    "v_head_dim": 6,  # narrower than the keys
    "sliding_window": 8,
    "attention_window_size": 8,
    **{"bos_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
    **{"initializer_range": 0.3, "init_std": 0.3},
    **{"hidden_size_per_layer_input": 8, "laurel_rank": 4, "rotary_dim": 4},
    **{"mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8},
    **{"chunk_size": 8, "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "state_size": 8},
    **{"time_step_rank": 4, "mamba_dt_rank": 4, "num_mem_blocks": 1, "conv_L_cache": 3},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    **{"index_n_heads": 2, "index_head_dim": 8, "index_topk": 64},
}
LATENT = ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "minicpm3")
LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
CONVOLVED = {"layer_types": ["conv", "full_attention"] * 2}
EXTRA: dict[str, dict[str, Any]] = {
    **{name: {"num_key_value_heads": 4} for name in (*LATENT, "youtu", "longcat_flash")},
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "kimi_linear"), LINEAR),
    "bamba": {"attn_layer_indices": [1, 3]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 4,
        "intermediate_size": [40] * 4,
    },
    "lfm2": CONVOLVED,
    "lfm2_moe": CONVOLVED | {"num_dense_layers": 1},
    "zaya": {"num_experts_per_tok": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "zamba2": {"layer_types": ["mamba", "hybrid"] * 2},
}


def _config(kind: type[PreTrainedConfig], extra: dict[str, Any]) -> PreTrainedConfig:
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given = {name: value for name, value in SMALL.items() if name in fields}
    for name, inner in (getattr(kind, "sub_configs", None) or {}).items():
        if kind_of := getattr(inner, "model_type", ""):
            given[name] = _config(inner, EXTRA.get(kind_of, {}))
    return kind(**given | extra)


def tiny(model_type: str) -> Any:
    """A random model of this type in eval mode; whatever its class raises where it cannot be made so small."""
    torch.manual_seed(0)
    config = _config(CONFIG_MAPPING[model_type], EXTRA.get(model_type, {}))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
