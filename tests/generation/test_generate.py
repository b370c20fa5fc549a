"""The embedded engine on a tiny model: what a row gives depends on that row alone."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from personascope.backends import Completion, Request, Sampling, local, make_backend, sampling
from personascope.backends.local import TransformersBackend, shared_prefixes
from personascope.errors import UserError
from personascope.formats.roles import Prompt, Question
from personascope.generation.generate import build_requests, generate, row_seed
from personascope.models.spans import prompt_ids

WARM, GREEDY = Sampling(0.7, 0.9), Sampling(temperature=0)


def ids(n: int, seed: int) -> list[int]:
    return torch.randint(0, 320, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def requests() -> list[Request]:
    """Two long common prefixes with different questions, some that share nothing, one-token prompts, a repeat."""
    roles = [ids(40, 1), ids(25, 2)]
    prompts = [roles[i % 2] + ids(3 + 2 * i, 10 + i) for i in range(6)]
    prompts += [ids(9, 30), ids(33, 31), [7], [8], roles[0] + ids(3, 10), roles[0][:20]]
    return [Request(prompt, seed=100 + i, max_tokens=4 + i % 5) for i, prompt in enumerate(prompts)]


def run(model: Any, batch: Sequence[Request], how: Sampling, *, stop: Sequence[int] = (), **options: Any) -> list[Any]:
    done = dict(TransformersBackend(model, stop, **options).generate(batch, how))
    assert sorted(done) == list(range(len(batch)))
    return [done[i] for i in range(len(batch))]


def alone(model: Any, batch: Sequence[Request], how: Sampling, stop: Sequence[int] = ()) -> list[Completion]:
    return [run(model, [request], how, stop=stop)[0] for request in batch]


@pytest.mark.parametrize("how", [WARM, GREEDY, Sampling(1.0, 1.0)], ids=["warm", "greedy", "full"])
def test_a_row_depends_on_itself_alone(tiny_llama: Any, how: Sampling) -> None:
    batch = requests()
    expected = alone(tiny_llama, batch, how)
    for batch_size in (1, 3, 5, 64):
        assert run(tiny_llama, batch, how, batch_size=batch_size) == expected
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0)).tolist()
    assert run(tiny_llama, [batch[i] for i in order], how, batch_size=7) == [expected[i] for i in order]
    assert run(tiny_llama, batch[2:6], how) == expected[2:6]


@pytest.mark.parametrize("how", [WARM, GREEDY], ids=["warm", "greedy"])
def test_shared_prefixes_change_nothing(tiny_llama: Any, monkeypatch: pytest.MonkeyPatch, how: Sampling) -> None:
    batch = requests()
    assert max(length for _, length in shared_prefixes(sorted(r.prompt_ids for r in batch))) >= 16
    shared = run(tiny_llama, batch, how)
    monkeypatch.setattr(local, "MIN_SHARED", 10**9)
    assert shared == run(tiny_llama, batch, how)


def test_greedy_is_the_librarys_greedy(tiny_llama: Any) -> None:
    batch = requests()
    for request, completion in zip(batch, run(tiny_llama, batch, GREEDY), strict=True):
        assert completion == Completion(library_greedy(tiny_llama, request), "length")


def library_greedy(model: Any, request: Request) -> list[int]:
    prompt = torch.tensor([request.prompt_ids])
    new = {"do_sample": False, "max_new_tokens": request.max_tokens}
    return model.generate(prompt, attention_mask=torch.ones_like(prompt), **new)[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("family", ["gemma3", "gpt2", "qwen3", "gpt_neox", "gemma3_multimodal"])
def test_other_families(family: str) -> None:
    from tests.models.test_hookpoints import make

    model = make(family)
    # Prompt and answer stay within the sliding window (8) of the families that have one.
    batch = [Request([token % 39 for token in ids(n, n)], seed=n, max_tokens=4) for n in (1, 3, 4, 4)]
    got = run(model, batch, GREEDY)
    assert got == [Completion(library_greedy(model, request), "length") for request in batch]


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "mistral"])
def test_sliding_window(family: str) -> None:
    """Prompts longer than the window (8) that share a prefix: padding must not take up room in the window."""
    from tests.models.test_hookpoints import make

    model = make(family)
    head = [token % 39 for token in ids(17, 1)]
    batch = [Request(head + [token % 39 for token in ids(n, n)], seed=n, max_tokens=4) for n in (1, 6, 3, 5)]
    assert run(model, batch, GREEDY) == [Completion(library_greedy(model, r), "length") for r in batch]


@pytest.mark.parametrize("how", [WARM, GREEDY], ids=["warm", "greedy"])
def test_stop_tokens(tiny_llama: Any, how: Sampling) -> None:
    batch = [Request(r.prompt_ids, r.seed, 8) for r in requests()]
    free = run(tiny_llama, batch, how)
    stop = [free[0].token_ids[3], free[5].token_ids[0], free[8].token_ids[7]]
    ended = run(tiny_llama, batch, how, stop=stop, batch_size=5)
    assert ended == alone(tiny_llama, batch, how, stop)
    for whole, cut in zip(free, ended, strict=True):
        at = next((i for i, token in enumerate(whole.token_ids) if token in stop), None)
        assert cut == Completion(whole.token_ids[:at], "length" if at is None else "stop")
    assert ended[5] == Completion([], "stop")
    assert {completion.finish_reason for completion in ended} == {"stop", "length"}


def test_limits_and_settings(tiny_llama: Any) -> None:
    before = tiny_llama.config._attn_implementation
    batch = [Request([5, 6, 7], seed=3, max_tokens=n) for n in (1, 2, 9, 4)]
    got = run(tiny_llama, batch, WARM)
    assert [len(completion.token_ids) for completion in got] == [1, 2, 9, 4]
    assert all(got[2].token_ids[: len(c.token_ids)] == c.token_ids for c in got)  # same seed, same prompt
    assert run(tiny_llama, [], WARM) == []
    unfinished: Any = TransformersBackend(tiny_llama, []).generate(batch, WARM)
    next(unfinished)
    unfinished.close()
    assert tiny_llama.config._attn_implementation == before


def test_seeds_matter(tiny_llama: Any) -> None:
    batch = [Request([5, 6, 7], seed=seed, max_tokens=6) for seed in range(8)]
    hot = run(tiny_llama, batch, Sampling(2.0, 1.0))
    assert len({tuple(completion.token_ids) for completion in hot}) > 4


def test_eager_attention_agrees(tiny_llama: Any) -> None:
    eager = copy.deepcopy(tiny_llama)
    eager.set_attn_implementation("eager")
    assert run(eager, requests(), WARM) == run(tiny_llama, requests(), WARM)


@pytest.mark.parametrize("seed", range(30))
def test_shared_prefixes_properties(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    heads = [ids(int(n), seed + i) for i, n in enumerate(torch.randint(0, 60, (4,), generator=rng))]
    picks = torch.randint(0, 4, (15,), generator=rng).tolist()
    tails = torch.randint(0, 12, (15,), generator=rng).tolist()
    prompts = sorted(
        (heads[p][: 60 - 3 * i] + ids(t, i)) or [0] for i, (p, t) in enumerate(zip(picks, tails, strict=True))
    )
    groups = shared_prefixes(prompts)
    assert [i for members, _ in groups for i in members] == list(range(15))
    for members, length in groups:
        assert len({tuple(prompts[i][:length]) for i in members}) == 1
        assert all(length < len(prompts[i]) for i in members)
        assert length >= local.MIN_SHARED if len(members) > 1 else length == 0


def test_shared_prefixes_examples() -> None:
    a, b = ids(40, 1), ids(40, 2)
    assert shared_prefixes([a, a]) == [([0, 1], 39)]
    assert shared_prefixes(sorted([[*a, 1, 2], [*a, 3]])) == [([0, 1], 40)]
    assert {length for _, length in shared_prefixes(sorted([[*a, 1], [*a, 2], [*b, 1], [*b, 2]]))} == {40}
    assert shared_prefixes([[1, 2, 3], [1, 2, 4]]) == [([0], 0), ([1], 0)]
    assert shared_prefixes([[1]]) == [([0], 0)]


def nucleus(logits: torch.Tensor, how: Sampling) -> torch.Tensor:
    """The exact distribution: the smallest set of tokens, by falling probability, that reaches top_p."""
    p = (logits.double() / how.temperature).softmax(-1)
    order = p.argsort(descending=True)
    kept, total = torch.zeros_like(p), 0.0
    for token in order.tolist():
        if total >= how.top_p:
            break
        kept[token] = p[token]
        total += float(p[token])
    return kept / kept.sum()


@pytest.mark.parametrize("how", [Sampling(0.7, 0.9), Sampling(1.0, 1.0), Sampling(1.5, 0.5), Sampling(1.0, 0.01)])
def test_sampled_distribution(monkeypatch: pytest.MonkeyPatch, how: Sampling) -> None:
    monkeypatch.setattr(sampling, "CPU_ROWS", 20_000)
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, 1.5, -3.0, 0.2])
    expected, n = nucleus(logits, how), 20_000
    for step in (0, 7):
        chosen = sampling.sample(logits.repeat(n, 1), torch.arange(n), step, how)
        counts = torch.bincount(chosen, minlength=8).double()
        assert not counts[expected == 0].any()
        inside = expected > 0
        chi_square = (((counts - n * expected) ** 2)[inside] / (n * expected)[inside]).sum()
        assert chi_square < 30  # 7 degrees of freedom: one in ten thousand


def test_steps_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "CPU_ROWS", 20_000)
    logits, n = torch.zeros(20_000, 4), 20_000
    first, second = (sampling.sample(logits, torch.arange(n), step, Sampling(1.0, 1.0)) for step in (0, 1))
    counts = torch.bincount(first * 4 + second, minlength=16).double()
    assert ((counts - n / 16) ** 2 / (n / 16)).sum() < 45  # 15 degrees of freedom


def test_sampling_limits() -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    seeds = torch.arange(5)
    best = logits.argmax(-1)
    assert torch.equal(sampling.sample(logits, seeds, 0, Sampling(temperature=0)), best)
    assert torch.equal(sampling.sample(logits, seeds, 0, Sampling(1.0, 1e-6)), best)
    assert torch.equal(sampling.sample(logits * 1e4, seeds, 0, Sampling(1.0, 1.0)), best)
    assert sampling.sample(torch.zeros(1, 1), seeds[:1], 0, WARM).tolist() == [0]


def test_nucleus_larger_than_the_first_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flat rows make the candidates grow; rows beside them, and how many come first, change nothing."""
    logits = torch.randn(40, 2000, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.01, 4, 40)[:, None]
    seeds = torch.arange(40)
    chosen = sampling.sample(logits, seeds, 2, WARM)
    assert max((nucleus(row, WARM) > 0).sum() for row in logits) > 16 * sampling.FIRST_CANDIDATES
    for row, seed, token in zip(logits, seeds, chosen, strict=True):
        assert sampling.sample(row[None], seed[None], 2, WARM) == token
        assert nucleus(row, WARM)[token] > 0
    monkeypatch.setattr(sampling, "FIRST_CANDIDATES", 2000)
    assert torch.equal(sampling.sample(logits, seeds, 2, WARM), chosen)


def test_gumbel_noise() -> None:
    seeds, tokens = torch.arange(400), torch.arange(250).repeat(400, 1)
    noise = sampling.gumbel_noise(seeds, 3, tokens)
    assert noise.dtype == torch.float64 and bool(noise.isfinite().all())
    assert torch.equal(noise, sampling.gumbel_noise(seeds, 3, tokens))
    assert torch.equal(noise[5:9, 7:9], sampling.gumbel_noise(seeds[5:9], 3, tokens[5:9, 7:9]))
    assert noise.unique().numel() == noise.numel()
    assert not torch.isin(sampling.gumbel_noise(seeds, 4, tokens), noise).any()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(noise.var()) == pytest.approx(torch.pi**2 / 6, abs=0.05)
    for quantile in (0.05, 0.5, 0.95):
        below = float((noise < -torch.log(-torch.log(torch.tensor(quantile)))).double().mean())
        assert below == pytest.approx(quantile, abs=0.005)


def prompt(variant: int = 0, question: str = "What is life?", system: str = "You are a pirate.") -> Prompt:
    return Prompt("pirate", variant, Question(12, question), system)


def test_build_requests(chat_tokenizer: Any) -> None:
    prompts = [prompt(), prompt(1), prompt(0, "Why?", "")]
    built = build_requests(chat_tokenizer, prompts, seed=5, max_tokens=50, max_model_len=2048)
    assert [r.prompt_ids for r in built] == [prompt_ids(chat_tokenizer, p.messages) for p in prompts]
    assert [r.messages for r in built] == [p.messages for p in prompts]
    assert [r.max_tokens for r in built] == [50] * 3
    assert [r.seed for r in built] == [row_seed(5, p) for p in prompts]
    assert built[0].seed != built[1].seed != row_seed(6, prompts[1])
    assert all(0 <= r.seed < 2**31 for r in built)
    assert len(prompts[2].messages) == 1


def test_prompt_and_answer_fit_the_model(chat_tokenizer: Any) -> None:
    length = len(prompt_ids(chat_tokenizer, prompt(3).messages))
    (request,) = build_requests(chat_tokenizer, [prompt(3)], seed=0, max_tokens=50, max_model_len=length + 7)
    assert request.max_tokens == 7
    with pytest.raises(UserError, match=rf"role pirate, variant 3, question 12: .* {length} tokens, .* is {length};"):
        build_requests(chat_tokenizer, [prompt(3)], seed=0, max_tokens=50, max_model_len=length)


def test_a_prompt_that_the_template_leaves_out_is_named(chat_tokenizer: Any) -> None:
    silent = copy.deepcopy(chat_tokenizer)
    silent.chat_template = "{% for m in messages %}{{ m.role + ': ' + (m.content if loop.first else '') }}{% endfor %}"
    with pytest.raises(UserError, match=r"^role pirate, variant 3, question 12: message 1 \(user\): the chat template"):
        build_requests(silent, [prompt(3)], seed=0, max_tokens=50, max_model_len=2048)


def test_rows(chat_tokenizer: Any, tiny_llama: Any) -> None:
    prompts = [prompt(v, q) for v in (0, 1) for q in ("What is life?", "Who?")]
    built = build_requests(chat_tokenizer, prompts, seed=5, max_tokens=6, max_model_len=400)
    stop = chat_tokenizer.eos_token_id
    backend = make_backend("transformers", tiny_llama, [stop], batch_size=3)
    rows = dict(generate(chat_tokenizer, backend, prompts, built, WARM))
    assert sorted(rows) == [0, 1, 2, 3]
    for i, row in rows.items():
        assert (row["role"], row["prompt_index"], row["question"]) == ("pirate", i // 2, prompts[i].question.text)
        assert row["response"] == chat_tokenizer.decode(row["response_token_ids"], skip_special_tokens=True)
        assert row["conversation"] == [*prompts[i].messages, {"role": "assistant", "content": row["response"]}]
        assert row["seed"] == built[i].seed
        assert row["prompt_exact"]
        assert stop not in row["response_token_ids"]


def test_unknown_backends() -> None:
    with pytest.raises(UserError, match="'nope' is unknown; choose one of transformers"):
        make_backend("nope")
    with pytest.raises(UserError, match="batchsize unknown to the backend transformers"):
        make_backend("transformers", None, [], batchsize=3)
