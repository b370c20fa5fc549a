"""The judge's numbers: the tree of tokens, its probabilities against one pass a number, and the expected value."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personascope.errors import UserError
from personascope.generation.judge import LocalJudge, expected, judge_prompt_ids, number_tree
from personascope.generation.rubrics import fill, read_rubric, reworded
from tests.models.test_spans import real

COHERENCE = read_rubric(Path(__file__).parents[2] / "resources/judge/coherence.txt")
PROMPTS = [
    "Rate the answer from 0 to 100.\n<answer>\nArr, the seven seas!\n</answer>",
    "Rate the answer from 0 to 100.\n<answer>\nI am only a language model, and 57 of us say so.\n</answer>",
    "Say 3.",
]


@pytest.fixture(scope="module")
def number_tokenizer() -> Any:
    """Like Llama 3's: up to three digits are one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from tests.conftest import CHATML

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(a, b) for a in "0123456789" for b in "0123456789"]
    words = [*letters, *("".join(pair) for pair in pairs), "100"]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[*pairs, ("10", "0")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHATML)


def tiny(kind: str, vocabulary: int, window: int = 24) -> Any:
    """Random models with the attention of their families; windows are shorter than the prompts."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from personascope.models.attention import use_cpu_attention

    torch.manual_seed(1)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": vocabulary}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512}
    shape |= {"sliding_window": window} if kind != "llama" else {}
    config = AutoConfig.for_model(kind, **shape, initializer_range=0.3, pad_token_id=None)
    attention = "eager" if kind == "gemma2" else "sdpa"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval().requires_grad_(False)
    use_cpu_attention(model)
    return model


@torch.inference_mode()
def one_pass_a_number(model: Any, tokenizer: Any, prompt: str, numbers: Iterable[int]) -> np.ndarray:
    """p_k by the formula: log p of each token of the number, teacher-forced, times 1 - p(a digit follows)."""
    before = judge_prompt_ids(tokenizer, prompt)
    digits = [token for text, token in tokenizer.get_vocab().items() if re.match("[0-9]", text)]
    result = []
    for number in numbers:
        written = tokenizer(str(number), add_special_tokens=False)["input_ids"]
        logp = model(input_ids=torch.tensor([before + written])).logits[0].double().log_softmax(-1)
        start = len(before) - 1
        p = torch.stack([logp[start + i, token] for i, token in enumerate(written)]).sum().exp()
        result.append(float(p * (1 - logp[-1, digits].exp().sum())))
    return np.array(result)


@pytest.mark.parametrize("top", [3, 100])
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("split", [True, False], ids=["digits-split", "numbers-are-tokens"])
def test_probabilities_equal_one_pass_a_number(
    kind: str, split: bool, top: int, chat_tokenizer: Any, number_tokenizer: Any
) -> None:
    tokenizer = chat_tokenizer if split else number_tokenizer
    model = tiny(kind, 400)
    judge = LocalJudge(model, tokenizer)
    prompts = [judge_prompt_ids(tokenizer, prompt) for prompt in PROMPTS]
    together = judge.probabilities(prompts, top).numpy()
    expected_rows = np.stack([one_pass_a_number(model, tokenizer, prompt, range(top + 1)) for prompt in PROMPTS])
    assert together.shape == (3, top + 1) and expected_rows.max() > 1e-5
    np.testing.assert_allclose(together, expected_rows, atol=1e-6, rtol=1e-4)
    alone = judge.probabilities(prompts[:1], top).numpy()
    np.testing.assert_allclose(alone, expected_rows[:1], atol=1e-6, rtol=1e-4)


def test_a_judgement_is_the_same_whatever_is_judged_with_it(tiny_llama: Any, chat_tokenizer: Any) -> None:
    judge = LocalJudge(tiny_llama, chat_tokenizer, batch_tokens=300)
    all_at_once = dict(judge.judge(PROMPTS, 100))
    assert sorted(all_at_once) == [0, 1, 2]
    for index, prompt in enumerate(PROMPTS):
        ((_, alone),) = LocalJudge(tiny_llama, chat_tokenizer).judge([prompt], 100)
        assert all_at_once[index].mass == pytest.approx(alone.mass, rel=1e-4)
        assert all_at_once[index].problem == alone.problem


def test_a_prompt_that_does_not_fit_is_not_cut(tiny_llama: Any, chat_tokenizer: Any) -> None:
    done = dict(LocalJudge(tiny_llama, chat_tokenizer).judge([PROMPTS[0], "long " * 400], 3))
    assert done[1].problem == "too long" and done[1].score is None
    assert done[0].problem != "too long"


def test_expected_value_and_its_floor() -> None:
    probabilities = np.array([0.1, 0.0, 0.0, 0.3])
    assert expected(probabilities).score == pytest.approx(0.9 / 0.4)
    assert expected(probabilities).mass == pytest.approx(0.4)
    little = expected(probabilities * 0.6)
    assert little.score is None and little.problem == "little mass" and little.mass == pytest.approx(0.24)
    assert expected(probabilities * 0.625).score == pytest.approx(2.25)


@pytest.mark.parametrize(
    ("name", "nodes", "digits"),
    [("gemma3", 101, 10), ("qwen3", 101, 10), ("llama3_1", 101, 1110), ("mistral_nemo", 101, 10)],
)
def test_trees_of_real_tokenizers(name: str, nodes: int, digits: int) -> None:
    tokenizer = real(name)
    tree = number_tree(tokenizer, 100)
    assert (len(tree.tokens), len(set(tree.nodes))) == (nodes, 101)
    plain = [token for token in tree.digits if tokenizer.convert_ids_to_tokens(token)[0] != "<"]
    assert len(plain) == digits
    for number in (0, 7, 10, 57, 100):
        assert tokenizer.decode(tree.path(tree.nodes[number])) == str(number)
    assert max(tree.depths) == (1 if name == "llama3_1" else 3)


def test_a_template_that_thinks_is_asked_behind_the_thinking() -> None:
    tokenizer = real("qwen3")
    assert tokenizer.decode(judge_prompt_ids(tokenizer, "Rate this.")).endswith("</think>\n\n")


@pytest.mark.model
def test_the_embedded_model_equals_one_pass_a_number(model: Any) -> None:
    from personascope.models.loading import ModelSpec, load_model, load_tokenizer

    spec = ModelSpec(str(model), dtype="float32", device="cpu")
    tokenizer, network = load_tokenizer(spec), load_model(spec)
    prompts = [fill(COHERENCE, "How do tides work?", text) for text in ("The moon pulls the sea.", "Sea sea sea.")]
    ids = [judge_prompt_ids(tokenizer, prompt) for prompt in prompts]
    found = LocalJudge(network, tokenizer).probabilities(ids, 100).numpy()
    some = [0, 1, 5, 10, 50, 57, 90, 100]  # every 101 of them take minutes on a busy machine; the benchmark does that
    one = one_pass_a_number(network, tokenizer, prompts[0], some)
    np.testing.assert_allclose(found[0, some], one, atol=1e-6, rtol=1e-4)


# ---- rubrics --------------------------------------------------------------------------------------------------------


def test_a_text_that_looks_like_a_placeholder_stays() -> None:
    assert fill("Q: {question} A: {answer} {other}", "{answer}?", "{question}") == "Q: {answer}? A: {question} {other}"


def test_the_second_wording_turns_the_scale_around() -> None:
    rubric = "Rate {question} {answer}.\n1 pirate?\n\nScale:\n0 - none.\n1 - some.\n2 - all.\n\nReply."
    assert "Scale:\n2 - all.\n1 - some.\n0 - none.\n\nReply." in reworded(rubric)
    assert sorted(reworded("One line {question} {answer}").split("\n"))[-1] == "What follows is a grading task."
    assert (
        reworded(COHERENCE).index("\n100 - ")
        < reworded(COHERENCE).index("\n50 - ")
        < reworded(COHERENCE).index("\n0 - ")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", 'has no "eval_prompt"'),
        ('{"eval_prompt": "Rate {question}."}', "has no {answer}"),
        ('["eval_prompt"]', 'has no "eval_prompt"'),
    ],
)
def test_rubrics_that_no_judge_could_use(tmp_path: Any, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(said)):
        read_rubric(tmp_path / "x.json")
