"""Interventions on tiny models, against plain hooks written by the formulas."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import (
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)
from torch import Tensor

from personascope.backends import Completion, Request, Sampling, local, steered
from personascope.backends.local import TransformersBackend
from personascope.errors import UserError
from personascope.models.hookpoints import SITES, decoder_layers, hook_module, parse_hook_name
from personascope.models.interventions import (
    AblateDirection,
    AblateFeatures,
    Add,
    Cap,
    ClampFeatures,
    intervene,
)
from personascope.models.saes import LoadedSAE
from personascope.models.steering import POSITIONS
from tests.models.test_hookpoints import FAMILIES, make

D, D_SAE = 32, 48
IDS = torch.randint(0, 320, (2, 9), generator=torch.Generator().manual_seed(1))
V = torch.randn(D, generator=torch.Generator().manual_seed(2))
A = V / V.norm()
GREEDY = Sampling(temperature=0)
KINDS: dict[str, Callable[..., Any]] = {
    "standard": lambda **cfg: StandardSAE(StandardSAEConfig(**cfg)),
    "jumprelu": lambda **cfg: JumpReLUSAE(JumpReLUSAEConfig(**cfg)),
    "topk": lambda **cfg: TopKSAE(TopKSAEConfig(k=9, **cfg)),
    "scaled": lambda **cfg: TopKSAE(TopKSAEConfig(k=9, rescale_acts_by_decoder_norm=True, **cfg)),
}


def make_sae(kind: str = "standard", hook: str = "blocks.1.hook_resid_post", d: int = D, **how: Any) -> LoadedSAE:
    torch.manual_seed(3)
    sae = KINDS[kind](d_in=d, d_sae=D_SAE, **({"normalize_activations": "none"} | how))
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.rand_like(parameter) if name == "threshold" else torch.randn_like(parameter) * 0.2)
    return LoadedSAE(sae.requires_grad_(False).eval(), parse_hook_name(hook), D_SAE, hook)


@contextmanager
def plain(model: Any, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The same by a hook that knows nothing of rows, padding or caches."""

    def hook(module: Any, args: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = decoder_layers(model)[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def logits(model: Any, ids: Tensor = IDS, **kwargs: Any) -> Tensor:
    return model(input_ids=ids, use_cache=False, **kwargs).logits


def hook_count(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_formulas(tiny_llama: Any) -> None:
    def capped(h: Tensor) -> Tensor:
        p = (h * A).sum(-1, keepdim=True)
        return h + (p.clamp(-0.1, 0.2) - p) * A

    cases = [
        (Add(1, V), lambda h: h + V),
        (Cap(1, 3 * V, -0.1, 0.2), capped),
        (AblateDirection(1, 7 * V), lambda h: h - (h * A).sum(-1, keepdim=True) * A),
    ]
    for intervention, formula in cases:
        with intervene(tiny_llama, [intervention]) as seen:
            got = logits(tiny_llama)
        with plain(tiny_llama, 1, formula):
            expected = logits(tiny_llama)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(got, logits(tiny_llama), atol=1e-3)
        assert seen.seen == IDS.numel() and 0 < seen.changed <= seen.seen


def test_cap_counts_and_keeps_what_is_inside(tiny_llama: Any) -> None:
    states = tiny_llama(input_ids=IDS, output_hidden_states=True).hidden_states[2]
    p = states @ A
    low, high = p.flatten().sort().values[[4, 13]].tolist()
    outside = (p < low - 1e-6) | (p > high + 1e-6)
    read = []
    with intervene(tiny_llama, [Cap(1, V, low, high)]) as seen, plain(tiny_llama, 1, lambda h: read.append(h) or h):
        logits(tiny_llama)
    assert (seen.seen, seen.changed) == (18, int(outside.sum())) and 0 < seen.changed < 18
    torch.testing.assert_close(read[0] @ A, p.clamp(low, high))
    assert torch.equal(read[0][~outside], states[~outside])


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("how", ["none", "layer_norm", "constant_norm_rescale"])
def test_features(tiny_llama: Any, kind: str, how: str) -> None:
    """Against the SAE's own decoder: its reconstruction moves as the features do, and its error stays."""
    sae = make_sae(kind, normalize_activations=how)
    features, values = [3, 17, 40], torch.tensor([0.5, 0.0, 2.0])

    def moved(to: Tensor) -> Callable[[Tensor], Tensor]:
        def change(h: Tensor) -> Tensor:
            z = sae.sae.encode(h)
            before = sae.sae.decode(z)
            z = sae.sae.encode(h)  # decoding uses up what a normalizing SAE has noted
            z[..., features] = to
            return h - before + sae.sae.decode(z)

        return change

    for intervention, to in (
        (AblateFeatures(sae, features), torch.zeros(3)),
        (ClampFeatures(sae, features, values), values),
    ):
        with intervene(tiny_llama, [intervention]) as seen:
            got = logits(tiny_llama)
        with plain(tiny_llama, 1, moved(to)):
            torch.testing.assert_close(got, logits(tiny_llama), rtol=1e-4, atol=1e-5)
        assert 0 < seen.changed <= 18
        assert not torch.allclose(got, logits(tiny_llama), atol=1e-4)


@pytest.mark.parametrize("site", list(SITES))
def test_sae_at_its_own_hook_point(site: str) -> None:
    """A feature's direction taken out where the SAE reads: what later blocks see follows."""
    for family in ("llama", "gemma2", "gpt2"):
        model = make(family)
        sae = make_sae(hook=f"blocks.1.{site}", d=16)
        module, is_input = hook_module(model, sae.point)

        def change(h: Tensor, sae: LoadedSAE = sae) -> Tensor:
            return h - sae.sae.encode(h)[..., :5] @ sae.sae.W_dec[:5]

        def on_output(module: Any, args: Any, output: Any) -> Any:
            return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

        if is_input:
            handle = module.register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:]))
        else:
            handle = module.register_forward_hook(on_output)
        expected = logits(model, IDS % 40)
        handle.remove()
        with intervene(model, [AblateFeatures(sae, range(5))]):
            got = logits(model, IDS % 40)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(got, logits(model, IDS % 40), atol=1e-4)


def test_what_changes_nothing_is_bit_identical(tiny_llama: Any) -> None:
    sae, before = make_sae(), logits(tiny_llama)
    nothing = [Add(1, 0.0 * V), AblateFeatures(sae, []), ClampFeatures(sae, [], []), Cap(2, V), Cap(0, V, -1e9, 1e9)]
    for one in nothing:
        with intervene(tiny_llama, [one]) as seen:
            assert torch.equal(logits(tiny_llama), before)
        assert seen.changed == 0
    with intervene(tiny_llama, []) as seen:
        assert torch.equal(logits(tiny_llama), before) and seen.seen == 0


def test_clamp_to_present_values(tiny_llama: Any) -> None:
    states = tiny_llama(input_ids=IDS, output_hidden_states=True).hidden_states[2]
    for kind in KINDS:
        sae = make_sae(kind)
        features = list(range(0, D_SAE, 3))
        present = sae.sae.encode(states)[..., features]
        with intervene(tiny_llama, [ClampFeatures(sae, features, present)]):
            torch.testing.assert_close(logits(tiny_llama), logits_before(tiny_llama), rtol=1e-5, atol=1e-5)


def logits_before(model: Any) -> Tensor:
    """Unsteered logits, also where the model is being steered."""
    handles = [(m, dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()]
    for module, _, _ in handles:
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    try:
        return logits(model)
    finally:
        for module, hooks, pre_hooks in handles:
            module._forward_hooks.update(hooks)
            module._forward_pre_hooks.update(pre_hooks)


def test_a_value_for_each_token(tiny_llama: Any) -> None:
    sae, features = make_sae(), [3, 17]
    values = torch.full((2, 6, 2), torch.nan)
    values[0, 2], values[1, 4, 0] = torch.tensor([1.0, 2.0]), 3.0
    read = []
    with (
        intervene(tiny_llama, [ClampFeatures(sae, features, values)]) as seen,
        plain(tiny_llama, 1, lambda h: read.append(h) or h),
    ):
        logits(tiny_llama)
    h = tiny_llama(input_ids=IDS, output_hidden_states=True).hidden_states[2].clone()
    z = sae.sae.encode(h)[..., features]
    h[0, 2] += (values[0, 2] - z[0, 2]) @ sae.sae.W_dec[features]
    h[1, 4] += (3.0 - z[1, 4, 0]) * sae.sae.W_dec[3]
    torch.testing.assert_close(read[0], h, rtol=1e-5, atol=1e-5)
    assert (seen.seen, seen.changed) == (18, 2)


def test_positions_with_padding_on_either_side(tiny_llama: Any) -> None:
    """Row by row without padding = one batch padded on the right, with or without a mask, or on the left."""
    prompts, whole = [3, 5, 1], [9, 7, 4]
    rows = [IDS.flatten()[i : i + n].tolist() for i, n in enumerate(whole)]
    right, left = torch.zeros(3, 9, dtype=torch.long), torch.zeros(3, 9, dtype=torch.long)
    for i, row in enumerate(rows):
        right[i, : len(row)], left[i, -len(row) :] = torch.tensor(row), torch.tensor(row)
    lengths = torch.tensor(whole)[:, None]
    right_mask = (torch.arange(9) < lengths).long()
    left_mask = right_mask.flip(1)
    for positions, expected in zip(POSITIONS, (20, 9, 14), strict=True):
        steer = [Add(0, V, positions), Cap(1, V, -0.1, 0.1, positions)]
        alone, counts = [], 0
        for row, prompt in zip(rows, prompts, strict=True):
            with intervene(tiny_llama, steer, prompt_lengths=[prompt]) as seen:
                alone.append(logits(tiny_llama, torch.tensor([row]))[0])
            counts += seen.changed
        with intervene(tiny_llama, steer, prompt_lengths=prompts, lengths=whole) as seen:
            without_mask = logits(tiny_llama, right)
        assert (seen.seen, seen.changed, seen.counts[0].changed) == (2 * expected, counts, expected)
        with intervene(tiny_llama, steer, prompt_lengths=prompts) as seen:
            with_mask = logits(tiny_llama, right, attention_mask=right_mask)
            on_left = logits(
                tiny_llama, left, attention_mask=left_mask, position_ids=(left_mask.cumsum(1) - 1).clamp(0)
            )
        assert (seen.seen, seen.changed) == (4 * expected, 2 * counts)
        for i, n in enumerate(whole):
            for got in (without_mask[i, :n], with_mask[i, :n], on_left[i, -n:]):
                torch.testing.assert_close(got, alone[i], rtol=1e-4, atol=1e-4)


def test_which_tokens_positions_are(tiny_llama: Any) -> None:
    """The last token of the prompt belongs to both: the first new token is drawn from it."""
    before = tiny_llama(input_ids=IDS, output_hidden_states=True).hidden_states[2]
    for positions, changed in zip(POSITIONS, (range(9), range(4), range(3, 9)), strict=True):
        read: list[Tensor] = []
        with (
            intervene(tiny_llama, [Add(1, V, positions)], prompt_lengths=[4, 4]),
            plain(tiny_llama, 1, lambda h, read=read: read.append(h) or h),
        ):
            logits(tiny_llama)
        for token in range(9):
            assert torch.equal(read[0][:, token], before[:, token] + (V if token in changed else 0))


def requests() -> list[Request]:
    """A long common prefix, prompts of their own, a prompt of one token, and limits that drop rows early."""
    head = torch.randint(0, 320, (40,), generator=torch.Generator().manual_seed(5)).tolist()
    tails = [torch.randint(0, 320, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in range(1, 8)]
    prompts = [head + tail for tail in tails[:4]] + [tails[4], tails[6], [7]]
    return [Request(prompt, seed=i, max_tokens=3 + 2 * i) for i, prompt in enumerate(prompts)]


def step_by_step(model: Any, steer: Sequence[Any], request: Request) -> list[int]:
    """Greedy decoding without a cache: the whole sequence again for every token."""
    ids = list(request.prompt_ids)
    for _ in range(request.max_tokens):
        with intervene(model, steer, prompt_lengths=[len(request.prompt_ids)]):
            ids.append(int(logits(model, torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(request.prompt_ids) :]


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
@pytest.mark.parametrize("kind", ["add", "cap", "features", "band"])
def test_generation_in_batches(tiny_llama: Any, positions: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steer: list[Any] = {
        "add": [Add(1, 3 * V, positions)],
        "cap": [Cap(1, V, 0.5, 1.0, positions)],
        "features": [ClampFeatures(make_sae(), [1, 5], [4.0, 4.0], positions)],
        "band": [Cap(0, V, 0.5, 1.0, positions), AblateDirection(1, V, positions), Add(2, V, positions)],
    }[kind]
    batch = requests()
    expected = [Completion(step_by_step(tiny_llama, steer, one), "length") for one in batch]
    free = TransformersBackend(tiny_llama, [])
    engine = free.steered(steer)
    got = dict(engine.generate(batch, GREEDY))
    assert [got[i] for i in range(len(batch))] == expected
    assert [got[i] for i in range(len(batch))] != [dict(free.generate(batch, GREEDY))[i] for i in range(len(batch))]
    new = sum(r.max_tokens for r in batch)  # each new token is drawn at one token of the response
    if positions == "response":
        assert engine.steering.counts[0].seen == new
    monkeypatch.setattr(local, "MIN_SHARED", 10**9)
    alone = free.steered(steer)
    assert dict(alone.generate(batch, GREEDY)) == got
    prompts = sum(len(r.prompt_ids) for r in batch)
    wanted = {"response": new, "prompt": prompts, "all": prompts + new - len(batch)}
    assert alone.steering.counts[0].seen == wanted[positions]


def test_the_librarys_own_generation(tiny_llama: Any) -> None:
    """Left-padded, with the library's cache."""
    batch = [r for r in requests() if len(r.prompt_ids) < 10]
    width = max(len(r.prompt_ids) for r in batch)
    ids, mask = torch.zeros(len(batch), width, dtype=torch.long), torch.zeros(len(batch), width, dtype=torch.long)
    for row, request in enumerate(batch):
        ids[row, -len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
        mask[row, -len(request.prompt_ids) :] = 1
    steer = [Add(1, 3 * V, "response")]
    with intervene(tiny_llama, steer, prompt_lengths=[len(r.prompt_ids) for r in batch]):
        made = tiny_llama.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)
    for row, request in enumerate(batch):
        assert made[row, width:].tolist() == step_by_step(tiny_llama, steer, Request(request.prompt_ids, 0, 6))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_decodes_with_a_cache(family: str) -> None:
    model, v = make(family), V[:16]
    steer = [Add(1, v, "response"), AblateDirection(2, v, "response")]
    whole = IDS[:, :7] % 39
    with intervene(model, steer, prompt_lengths=[4, 4]):
        expected = logits(model, whole)
        first = model(input_ids=whole[:, :4], use_cache=True)
        got = [first.logits]
        for token in range(4, 7):
            step = model(input_ids=whole[:, token : token + 1], past_key_values=first.past_key_values, use_cache=True)
            got.append(step.logits)
    torch.testing.assert_close(torch.cat(got, 1), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected[:, 4:], logits(model, whole)[:, 4:], atol=1e-3)


def test_it_comes_off(tiny_llama: Any) -> None:
    before, count = logits(tiny_llama), hook_count(tiny_llama)
    with pytest.raises(ZeroDivisionError), intervene(tiny_llama, [Add(0, V), Add(1, V)]):
        raise ZeroDivisionError
    with pytest.raises(UserError), intervene(tiny_llama, [Add(0, V), Add(7, V)]):
        pass
    engine = TransformersBackend(tiny_llama, [], interventions=[Add(1, V)])
    unfinished: Any = engine.generate(requests(), GREEDY)
    next(unfinished)
    assert torch.equal(logits(tiny_llama), before)  # while the engine waits to be asked for more
    unfinished.close()
    assert hook_count(tiny_llama) == count
    with intervene(tiny_llama, [Add(1, V)]), intervene(tiny_llama, [Add(1, -V)]):
        torch.testing.assert_close(logits(tiny_llama), before, rtol=1e-4, atol=1e-5)
    assert hook_count(tiny_llama) == count and torch.equal(logits(tiny_llama), before)


def test_in_half_precision() -> None:
    model = make("llama")
    half = copy.deepcopy(model).to(torch.bfloat16)
    with intervene(half, [Add(1, V[:16]), Cap(1, V[:16], 0.0, 1.0), AblateFeatures(make_sae(d=16), [1, 2, 3])]):
        got = logits(half, IDS % 39)
    with intervene(model, [Add(1, V[:16]), Cap(1, V[:16], 0.0, 1.0), AblateFeatures(make_sae(d=16), [1, 2, 3])]):
        expected = logits(model, IDS % 39)
    assert got.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(got.float().flatten(), expected.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: Add(3, V), "layer 3: the model has layers 0 to 2"),
        (lambda: Add(-1, V), "layer -1: the model has layers 0 to 2"),
        (lambda: Add(1, V[:7]), r"vector at layer 1: shape \[7\], the model's d_model is 32"),
        (lambda: Add(1, V * float("nan")), "vector at layer 1: it holds values that are not finite"),
        (lambda: Cap(1, 0 * V, 0.0), "direction at layer 1: all of it is 0"),
        (lambda: Cap(1, V, 2.0, 1.0), r"cap at layer 1: \[2.0, 1.0\] is no interval"),
        (lambda: Cap(1, V, float("nan")), r"cap at layer 1: \[nan, inf\] is no interval"),
        (lambda: AblateFeatures(make_sae(), [D_SAE]), f"feature {D_SAE}: the SAE at blocks.1.hook_resid_post has"),
        (lambda: AblateFeatures(make_sae(), [1, 1]), "one is named twice"),
        (lambda: AblateFeatures(make_sae(d=16), [1]), "reads 16 dimensions, the model's d_model is 32"),
        (lambda: ClampFeatures(make_sae(), [1, 2], [1.0]), r"values of shape \[1\] for 2 features"),
        (lambda: Add(1, V, "answer"), "positions: 'answer' is none of all, prompt, response"),  # type: ignore[arg-type]
    ],
)
def test_bad_input(tiny_llama: Any, make_one: Callable[[], Any], message: str) -> None:
    count = hook_count(tiny_llama)
    with pytest.raises(UserError, match=message), intervene(tiny_llama, [make_one()]):
        pass
    assert hook_count(tiny_llama) == count


def test_misuse(tiny_llama: Any) -> None:
    with pytest.raises(ValueError, match="need the prompts' lengths"), intervene(tiny_llama, [Add(1, V, "response")]):
        pass
    with pytest.raises(ValueError, match="3 prompt lengths for 2 rows"):  # noqa: SIM117
        with intervene(tiny_llama, [Add(1, V, "response")], prompt_lengths=[1, 2, 3]):
            logits(tiny_llama)


def test_numpy_vectors_and_other_engines(tiny_llama: Any) -> None:
    with intervene(tiny_llama, [Add(1, V.numpy().astype(np.float64))]):
        got = logits(tiny_llama)
    with intervene(tiny_llama, [Add(1, V)]):
        assert torch.equal(got, logits(tiny_llama))
    elsewhere: Any = type("OpenAIBackend", (), {})()
    assert steered(elsewhere, []) is elsewhere
    with pytest.raises(UserError, match="OpenAIBackend cannot be steered"):
        steered(elsewhere, [Add(1, V)])
    assert isinstance(steered(TransformersBackend(tiny_llama, []), [Add(1, V)]), TransformersBackend)
