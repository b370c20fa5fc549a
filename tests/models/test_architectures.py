"""Every text architecture of transformers: read and continued as transformers does, or refused by name."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from personascope.backends import Request, Sampling
from personascope.backends.local import TransformersBackend, generates_truly
from personascope.errors import UserError
from personascope.models.attention import use_cpu_attention
from personascope.models.hookpoints import HookPoint, decoder_layers, run_to
from personascope.models.prefixes import can_share, extended, repeated
from personascope.models.trial import TRIED, plain_cache, require_added, require_plain_cache, require_readable
from tests.helpers.architectures import VOCABULARY, tiny

# Too large to be made in a test, without a small form, or in need of what is not installed.
NOT_MADE = {
    *("got_ocr2", "xlm", "gemma4_unified", "roc_bert", "cohere_compass_text", "gemma3n", "gemma4_assistant"),
    *("gemma4_unified_assistant", "musicgen", "musicgen_melody", "qwen4_exp", "qwen4_exp_text", "reformer", "zamba"),
}
TYPES = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in NOT_MADE]
# Blocks that give no vector a token, or let tokens see what comes after them.
UNREADABLE = {
    *("bert", "bert-generation", "big_bird", "camembert", "cpmant", "data2vec-text", "electra", "ernie"),
    *("megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl"),
    *("blt", "deepseek_v4", "hrm_text", "hy_v4", "longcat_flash", "mllama", "prophetnet", "xlnet", "xmod"),
    "zamba2",
}
# Read, but their caches are none that generation can go on from.
NOT_CONTINUED = {"falcon_mamba", "mamba", "mamba2", "openai-gpt", "recurrent_gemma", "rwkv", "xlstm"}
WITHOUT_EMBEDDINGS = {"mamba", "mamba2", "falcon_mamba", "rwkv"}  # hidden_states begin with the first block's output
OWN_GENERATION = {"moshi", "whisper"}  # transformers generates from sound, or sound
HYBRIDS = ("bamba", "falcon_h1", "granitemoehybrid", "jamba", "kimi_linear", "lfm2", "qwen3_5_text", "qwen3_next")
GREEDY = Sampling(temperature=0)
NEW = 8


@pytest.fixture(scope="module", params=TYPES)
def model(request: pytest.FixtureRequest) -> Any:
    made = tiny(request.param)
    use_cpu_attention(made)
    made.kind = request.param
    return made


def ids(n: int, seed: int) -> list[int]:
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def refused(model: Any) -> bool:
    """Whether loading the model would refuse it; the refusal names its class."""
    try:
        require_readable(model)
    except UserError as error:
        assert type(model).__name__ in str(error)
        return True
    return False


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@torch.inference_mode()
def test_activations_are_the_hidden_states(model: Any) -> None:
    kind = model.kind
    assert refused(model) == (kind in UNREADABLE)
    if kind in UNREADABLE:
        return
    rows = [ids(20, 1), ids(13, 2)]
    padded = torch.tensor([row + [0] * (20 - len(row)) for row in rows])
    points = {HookPoint(layer, "resid_post") for layer in range(len(decoder_layers(model)))}
    found = run_to(model, padded, points, [[(0, 20)], [(0, 13)]])
    for row, part in zip(rows, (slice(0, 20), slice(20, 33)), strict=True):
        states = model(input_ids=torch.tensor([row]), output_hidden_states=True, use_cache=False).hidden_states
        for layer in range(len(points) - 1):  # the last hidden state is behind the final norm
            expected = states[layer + (kind not in WITHOUT_EMBEDDINGS)][0]
            close(found[HookPoint(layer, "resid_post")][part], expected[0] if expected.dim() == 3 else expected)


@torch.inference_mode()
def test_a_shared_prefix_changes_no_activation(model: Any) -> None:
    if model.kind in UNREADABLE or not can_share(model):
        return
    points = {HookPoint(layer, "resid_post") for layer in (0, len(decoder_layers(model)) - 1)}
    common, rests = ids(16, 3), [ids(9, 4), ids(5, 5)]
    cache = extended(model, extended(model, None, common[:10], points), common[10:], points)
    padded = torch.tensor([rest + [0] * (9 - len(rest)) for rest in rests])
    found = run_to(model, padded, points, [[(0, 9)], [(0, 5)]], cache=repeated(cache, 2))
    for rest, part in zip(rests, (slice(0, 9), slice(9, 14)), strict=True):
        whole = run_to(model, torch.tensor([common + rest]), points, [[(16, 16 + len(rest))]])
        for point in points:
            close(found[point][part], whole[point])


@torch.inference_mode()
def test_greedy_generation_is_that_of_transformers(model: Any) -> None:
    kind = model.kind
    if kind in UNREADABLE or kind in OWN_GENERATION:
        return
    common = ids(20, 6)
    prompts = [common + ids(6, 7), common + ids(3, 8), ids(9, 9), ids(9, 10)]
    requests = [Request(prompt, 0, NEW - (i == 3)) for i, prompt in enumerate(prompts)]
    engine = TransformersBackend(model, [], batch_size=4)
    if kind in NOT_CONTINUED:
        with pytest.raises(UserError, match=f"generation: {type(model).__name__} does not go on from its cache"):
            dict(engine.generate(requests, GREEDY))
        return
    found = dict(engine.generate(requests, GREEDY))
    how = {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW, "pad_token_id": 0}
    model.generation_config = GenerationConfig(**how, eos_token_id=None, bos_token_id=None)
    for i, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
        expected = model.generate(torch.tensor([prompt]))[0, len(prompt) :].tolist()
        assert list(found[i].token_ids) == expected[: request.max_tokens]


def test_types_that_are_not_tried_in_a_run_pass_their_trials() -> None:
    for kind in TRIED:
        model = tiny(kind)
        require_readable(model)
        assert plain_cache(model) and generates_truly(model, True), kind
        close(sublayers(model), added(model))


def added(model: Any) -> Tensor:
    """What block 1 adds to the stream."""
    before, after = HookPoint(1, "resid_pre"), HookPoint(1, "resid_post")
    found = run_to(model, torch.tensor([ids(12, 1), ids(12, 2)]), {before, after}, [[(0, 12)]] * 2)
    return found[after] - found[before]


def sublayers(model: Any) -> Tensor:
    """What its attention and its MLP give, together."""
    points = {HookPoint(1, "attn_out"), HookPoint(1, "mlp_out")}
    return sum(run_to(model, torch.tensor([ids(12, 1), ids(12, 2)]), points, [[(0, 12)]] * 2).values(), torch.zeros(1))


def test_experts_that_give_tokens_in_one_row() -> None:
    """Llama 4's give [rows * tokens, d], of which one number a token was read."""
    model = tiny("llama4_text")
    close(sublayers(model), added(model))
    require_added(model, HookPoint(1, "mlp_out"))


def test_a_sublayer_that_is_multiplied_before_it_is_added() -> None:
    model = tiny("granite")
    require_added(model, HookPoint(1, "mlp_out"))
    blocks: Any = decoder_layers(model)
    for block in blocks:
        block.residual_multiplier = 0.22  # as in Granite 3
    close(0.22 * sublayers(model), added(model))
    with pytest.raises(UserError, match=r"mlp_out: GraniteForCausalLM adds 0\.22 times what this module gives"):
        require_added(model, HookPoint(1, "mlp_out"))
    require_added(model, HookPoint(1, "mlp"))  # the module itself is meant
    require_added(model, HookPoint(1, "resid_post"))


@pytest.mark.parametrize("kind", HYBRIDS)
def test_trees_and_chats_need_a_plain_cache(kind: str) -> None:
    with pytest.raises(UserError, match=f"judge: {type(tiny(kind)).__name__} remembers more of earlier tokens"):
        require_plain_cache(tiny(kind), "judge", "use another")


def test_streams_beside_each_other_are_not_steered() -> None:
    """Gemma 3n carries four; activations are those of the first, on which it computes."""
    from personascope.models.interventions import Add, intervene

    model = tiny("gemma3n_text")
    with pytest.raises(UserError, match="blocks carry several streams"), intervene(model, [Add(1, torch.ones(32))]):
        model(input_ids=torch.tensor([ids(5, 1)]))
