"""Hook points on tiny random models of several families, checked against hidden_states and plain hooks."""

from typing import Any, cast

import pytest
import torch
import transformers as tf
from torch import Tensor, nn

from personascope.errors import UserError
from personascope.models.hookpoints import HookPoint, decoder_layers, hook_module, parse_hook_name, run_to

IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
ALL = [[(0, 6)], [(0, 6)]]
BOTH = ("mlp", "self_attn")
HALF_ROTARY: dict[str, Any] = {"partial_rotary_factor": 0.5}
COMMON = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,  # as many as the text model has: the list must be told apart by its place
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def gemma_3_multimodal() -> nn.Module:
    text = tf.Gemma3TextConfig(**COMMON, sliding_window=8)
    config = tf.Gemma3Config(text_config=text, vision_config=VISION, mm_tokens_per_image=4, image_token_index=39)
    return tf.Gemma3ForConditionalGeneration(config)


FAMILIES = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**COMMON)),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**COMMON, sliding_window=8)),
    "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**COMMON)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**COMMON, sliding_window=8)),
    "gemma3": lambda: tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**COMMON, sliding_window=8)),
    "gemma3_multimodal": gemma_3_multimodal,
    "olmo2": lambda: tf.Olmo2ForCausalLM(tf.Olmo2Config(**COMMON)),
    "glm4": lambda: tf.Glm4ForCausalLM(tf.Glm4Config(**COMMON, **HALF_ROTARY)),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=40, n_embd=16, n_layer=3, n_head=2, n_positions=32)),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(
        tf.GPTNeoXConfig(**{k: v for k, v in COMMON.items() if k not in ("num_key_value_heads", "head_dim")})
    ),
}
_MADE: dict[str, Any] = {}


def make(family: str) -> Any:
    if family not in _MADE:
        torch.manual_seed(1)
        model = FAMILIES[family]().eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_" in name:  # fresh norms are all alike; these tell before and after apart
                parameter.uniform_(0.5, 1.5)
        _MADE[family] = model
    return _MADE[family]


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> Any:
    return make(request.param)


def read(model: Any, layer: int, site: str) -> Tensor:
    point = HookPoint(layer, site)
    return run_to(model, IDS, {point}, ALL)[point].reshape(*IDS.shape, -1)


def hidden_states(model: Any) -> tuple[Tensor, ...]:
    return model.base_model(input_ids=IDS, output_hidden_states=True, use_cache=False).hidden_states


def test_decoder_layers(model: Any) -> None:
    layers = decoder_layers(model)
    assert len(layers) == 3
    names = [name for name, module in model.named_modules() if module is layers]
    assert names and not any("vision" in name for name in names)
    assert decoder_layers(model.base_model) is layers


def test_residual_stream_is_hidden_states(model: Any) -> None:
    states = hidden_states(model)
    for layer in range(3):
        torch.testing.assert_close(read(model, layer, "resid_pre"), states[layer])
        if layer < 2:  # the library's last hidden state is behind the final norm
            torch.testing.assert_close(read(model, layer, "resid_post"), states[layer + 1])
    assert not torch.allclose(read(model, 2, "resid_post"), states[3])


def test_sublayers_add_up_to_the_block(model: Any) -> None:
    """resid_post = resid_pre + attn_out + mlp_out: what is read is what is added (Gemma: behind its second norm)."""
    for layer in range(3):
        parts = [read(model, layer, site) for site in ("resid_pre", "attn_out", "mlp_out")]
        torch.testing.assert_close(sum(parts), read(model, layer, "resid_post"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "site", "module"),
    [
        ("llama", "mlp_out", "mlp"),
        ("llama", "attn_out", "self_attn"),
        ("gemma2", "mlp_out", "post_feedforward_layernorm"),
        ("gemma2", "attn_out", "post_attention_layernorm"),
        ("gemma3", "mlp_out", "post_feedforward_layernorm"),
        ("gemma3_multimodal", "attn_out", "post_attention_layernorm"),
        ("gpt2", "attn_out", "attn"),
        ("gpt_neox", "attn_out", "attention"),
    ],
)
def test_sublayer_module(family: str, site: str, module: str) -> None:
    model = make(family)
    seen = []
    handle = getattr(decoder_layers(model)[1], module).register_forward_hook(
        lambda _module, _args, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    hidden_states(model)
    handle.remove()
    torch.testing.assert_close(read(model, 1, site), seen[0])


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((family, f"model.layers.1.{name}") for family in ("gemma2", "gemma3", "olmo2", "glm4") for name in BOTH),
        ("gemma3_multimodal", "model.language_model.layers.1.mlp"),
        ("llama", "model.layers.1.mlp"),
        ("gpt2", "transformer.h.1.attn"),
        ("gpt_neox", "gpt_neox.layers.1.attention"),
    ],
)
def test_module_path_is_the_modules_own_output(family: str, name: str) -> None:
    """As SAELens's HookedProxyLM reads it, where the families with a norm behind each sublayer add another value."""
    from sae_lens.load_model import HookedProxyLM

    model = make(family)
    expected = HookedProxyLM(model, cast(Any, None), hook_names=[name]).run_with_cache(IDS)[1][name]
    point = parse_hook_name(name)
    torch.testing.assert_close(read(model, point.layer, point.site), expected)
    added = read(model, 1, "mlp_out" if name.endswith("mlp") else "attn_out")
    assert torch.allclose(added, expected) == (family in ("llama", "gpt2", "gpt_neox"))


def test_module_that_the_block_lacks() -> None:
    with pytest.raises(UserError, match="hook point attention: LlamaDecoderLayer has no module for it"):
        hook_module(make("llama"), HookPoint(1, "attention"))


def test_stops_behind_the_last_layer_needed(model: Any) -> None:
    ran = []
    before = hook_counts(model)
    handles = [
        layer.register_forward_hook(lambda *_args, n=n: ran.append(n)) for n, layer in enumerate(decoder_layers(model))
    ]
    try:
        read(model, 0, "mlp_out")
        assert ran == []
        read(model, 1, "resid_pre")
        assert ran == [0]
        ran.clear()
        points = {HookPoint(0, "resid_post"), HookPoint(1, "resid_post"), HookPoint(1, "attn_out")}
        assert run_to(model, IDS, points, ALL).keys() == points
        assert ran == [0, 1]
    finally:
        for handle in handles:
            handle.remove()
    assert hook_counts(model) == before


def hook_counts(model: Any) -> list[int]:
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def test_selected_tokens_in_order() -> None:
    model = make("llama")
    point = HookPoint(1, "resid_post")
    full = read(model, 1, "resid_post")
    selected = run_to(model, IDS, {point}, [[(4, 6), (1, 2)], [(0, 3)]])[point]
    torch.testing.assert_close(selected, torch.cat([full[0, 4:6], full[0, 1:2], full[1, 0:3]]))
    assert run_to(model, IDS, {point}, [[], []])[point].shape == (0, 16)


@pytest.mark.parametrize("layer", [-1, 3, 40])
def test_layer_outside_the_model(layer: int) -> None:
    with pytest.raises(UserError, match=f"layer {layer}: the model has layers 0 to 2"):
        hook_module(make("llama"), HookPoint(layer, "resid_post"))


def test_model_without_layers() -> None:
    model: Any = nn.Module()
    model.config = tf.LlamaConfig(**COMMON)
    with pytest.raises(UserError, match="no list of 3 decoder layers"):
        decoder_layers(model)


@pytest.mark.parametrize(
    ("name", "layer", "site"),
    [
        ("blocks.40.hook_resid_post", 40, "resid_post"),
        ("blocks.0.hook_resid_pre", 0, "resid_pre"),
        ("blocks.7.hook_mlp_out", 7, "mlp_out"),
        ("blocks.7.hook_attn_out", 7, "attn_out"),
        ("model.layers.12", 12, "resid_post"),
        ("model.language_model.layers.12.output", 12, "resid_post"),
        ("layers.5.mlp", 5, "mlp"),
        ("model.layers.5.self_attn", 5, "self_attn"),
        ("transformer.h.3", 3, "resid_post"),
        ("transformer.h.3.attn", 3, "attn"),
        ("gpt_neox.layers.3.attention", 3, "attention"),
    ],
)
def test_parse_hook_name(name: str, layer: int, site: str) -> None:
    assert parse_hook_name(name) == HookPoint(layer, site)


@pytest.mark.parametrize(
    "name",
    [
        "blocks.3.attn.hook_z",
        "blocks.3.hook_resid_mid",
        "blocks.3.ln2.hook_normalized",
        "blocks.3.hook_mlp_in",
        "blocks.3.hook_resid_post.foo",
        "blocks.x.hook_resid_post",
        "model.layers.3.mlp.down_proj",
        "model.layers.3.input_layernorm",
        "model.norm",
        "model.vision_tower.encoder.layers.3.mlp",
        "hook_embed",
        "",
    ],
)
def test_refused_hook_names(name: str) -> None:
    with pytest.raises(UserError) as error:
        parse_hook_name(name)
    assert repr(name) in str(error.value)
