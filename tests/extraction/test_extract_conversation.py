"""Token activations of whole conversations: a naive reference, chunks, the file, and what does not fit the context."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personascope.errors import UserError
from personascope.extraction.extract import ExtractOptions
from personascope.extraction.extract_conversation import conversation_activations, encode_within
from personascope.formats.tables import load_npz
from personascope.formats.tokens import (
    read_activations,
    read_metadata,
    read_user_means,
    save_user_means,
    token_writer,
    write_failure,
)
from personascope.models.saes import LoadedSAE, load_sae
from personascope.models.spans import Encoded, Message, encode_conversation, message_spans, prompt_ids
from tests.extraction.test_extract import D_SAE, KINDS, save_sae
from tests.models.test_spans import real

TALK = [
    {"role": "system", "content": "You are a pirate."},
    {"role": "user", "content": "What is the meaning of life?"},
    {"role": "assistant", "content": "The answer is forty two."},
    {"role": "user", "content": "Who said so?"},
    {"role": "assistant", "content": "   "},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "The assistant 🙂 said it to the user."},
]
LAYERS = (1, 0)


@pytest.fixture(params=list(KINDS))
def sae(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedSAE:
    return load_sae(save_sae(tmp_path / "sae", request.param))


def write(path: Path, model: Any, sae: LoadedSAE, tokenizer: Any, chunk: int) -> None:
    encoded = encode_within(tokenizer, TALK, None, "refuse")
    turns = [{"message_index": s.message_index, "start": s.start, "end": s.end} for s in encoded.spans]
    metadata = {"d_sae": D_SAE, "residual_layers": list(LAYERS), "turns": turns}
    _, blocks = conversation_activations(model, sae, tokenizer, encoded, ExtractOptions(LAYERS, chunk_tokens=chunk))
    with token_writer(path, metadata, 32) as keep:
        for block in blocks:
            assert len(block.position) <= chunk
            keep(block)


@pytest.mark.parametrize("chunk", [1, 7, 512])
@torch.inference_mode()
def test_equals_the_naive_reference(
    tiny_llama: Any, sae: LoadedSAE, chat_tokenizer: Any, tmp_path: Path, chunk: int
) -> None:
    path = tmp_path / "talk.parquet"
    write(path, tiny_llama, sae, chat_tokenizer, chunk)
    got = read_activations(path)
    spans = message_spans(chat_tokenizer, TALK)
    ids = chat_tokenizer(chat_tokenizer.apply_chat_template(TALK, tokenize=False), add_special_tokens=False).input_ids
    states = tiny_llama(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    where = [t for span in spans for t in range(span.start, span.end)]
    z = sae.sae.encode(states[2][0, where]).numpy()
    dense = np.zeros_like(z)
    dense[np.repeat(np.arange(len(where)), np.diff(got.offsets)), got.indices] = got.values
    np.testing.assert_allclose(dense, z, atol=1e-5)
    assert all((np.diff(got.indices[a:b]) > 0).all() for a, b in zip(got.offsets[:-1], got.offsets[1:], strict=True))
    assert got.position.tolist() == where and got.token_ids.tolist() == [ids[t] for t in where]
    assert got.turn.tolist() == [i for i, span in enumerate(spans) for _ in range(span.start, span.end)]
    assert (got.n_turns, got.message_index.tolist(), got.width) == (3, [2, 4, 6], D_SAE)
    assert chat_tokenizer.convert_tokens_to_ids(got.tokens) == got.token_ids.tolist()
    for layer in LAYERS:
        residual = read_activations(path, "residual", layer)
        np.testing.assert_allclose(residual.values.reshape(-1, 32), states[layer + 1][0, where], atol=1e-4)
        assert residual.width == 32 and np.diff(residual.offsets).tolist() == [32] * len(where)


def test_a_layer_that_was_not_kept_is_named(
    tiny_llama: Any, sae: LoadedSAE, chat_tokenizer: Any, tmp_path: Path
) -> None:
    write(tmp_path / "talk.parquet", tiny_llama, sae, chat_tokenizer, 512)
    with pytest.raises(UserError, match=r"layer 2 is not among the layers kept"):
        read_activations(tmp_path / "talk.parquet", "residual", 2)


def test_only_empty_answers(tiny_llama: Any, sae: LoadedSAE, chat_tokenizer: Any) -> None:
    talk = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": ""}]
    encoded = encode_within(chat_tokenizer, talk, None, "refuse")
    user, blocks = conversation_activations(tiny_llama, sae, chat_tokenizer, encoded, ExtractOptions(LAYERS))
    assert list(blocks) == [] and len(encoded.spans) == 1
    assert user.n_tokens[0] > 0 and np.isfinite(user.means).all(), "the user has spoken all the same"


def test_a_failed_conversation_has_no_rows_and_its_reason(tmp_path: Path) -> None:
    write_failure(tmp_path / "bad.parquet", {"d_sae": 5, "turns": []}, "bad.json, message 3: no role")
    assert read_metadata(tmp_path / "bad.parquet")["error"] == "bad.json, message 3: no role"
    assert len(read_activations(tmp_path / "bad.parquet")) == 0


def said(*turns: str) -> list[Message]:
    """Messages from `role: content`."""
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]


@torch.inference_mode()
def by_hand(model: Any, tokenizer: Any, messages: list[Message], wanted: list[list[str]]) -> np.ndarray:
    """Means [T, layers, 32] over the tokens that write the wanted texts, one list a turn, each text found behind the
    one before in the rendering; NaN where a turn wants none."""
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    states = model(input_ids=torch.tensor([encoding.input_ids]), output_hidden_states=True).hidden_states
    means, place = np.full((len(wanted), len(LAYERS), 32), np.nan), 0
    for turn, texts in enumerate(wanted):
        tokens: list[int] = []
        for content in texts:
            start = text.index(f"user\n{content}", place) + len("user\n")
            place = start + len(content)
            tokens += [t for t, (a, b) in enumerate(encoding.offset_mapping) if a < place and b > start]
        if tokens:
            means[turn] = [states[layer + 1][0, tokens].mean(0).numpy() for layer in LAYERS]
    return means


TOOLS = said("user: Tide?", "assistant: look()", "tool: high", "assistant: High.", "user: At six?", "assistant: Low.")
SEVERAL = said("user: One.", "user: Two, too.", "assistant: Both.", "user: ", "user: Who?", "assistant: I.")
CASES: dict[str, tuple[list[Message], list[list[str]]]] = {
    "system": (TALK, [["What is the meaning of life?"], ["Who said so?"], ["Who?"]]),
    "tool": (TOOLS, [["Tide?"], [], ["At six?"]]),
    "several": (SEVERAL, [["One.", "Two, too."], ["Who?"]]),
    "assistant-first": (said("assistant: Ahoy!", "user: Who?", "assistant: I."), [[], ["Who?"]]),
    "silent-user": (said("user:  ", "assistant: Well?", "user: hi", "assistant: Hi."), [[], ["hi"]]),
    "the-same-again": (said("user: Who?", "assistant: Who?", "user: Who?", "assistant: Who?"), [["Who?"], ["Who?"]]),
}


@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize("case", list(CASES))
def test_user_means_are_those_of_a_forward_pass_by_hand(
    tiny_llama: Any, chat_tokenizer: Any, tmp_path: Path, case: str, chunk: int
) -> None:
    messages, wanted = CASES[case]
    expected = by_hand(tiny_llama, chat_tokenizer, messages, wanted)
    encoded = encode_within(chat_tokenizer, messages, None, "refuse")
    sae, options = load_sae(save_sae(tmp_path / "sae")), ExtractOptions(LAYERS, chunk_tokens=chunk)
    user, blocks = conversation_activations(tiny_llama, sae, chat_tokenizer, encoded, options)
    np.testing.assert_allclose(user.means, expected, atol=1e-4)
    assert ((user.n_tokens > 0) == [bool(texts) for texts in wanted]).all()
    assert sum(len(block.position) for block in blocks) == sum(span.end - span.start for span in encoded.spans)
    save_user_means(tmp_path / "talk.user_means.npz", user, LAYERS)
    for i, layer in enumerate(LAYERS):
        read = read_user_means(tmp_path / "talk.user_means.npz", layer)
        np.testing.assert_allclose(read, expected[:, i], atol=1e-4)
    with pytest.raises(UserError, match="layer_2"):
        read_user_means(tmp_path / "talk.user_means.npz", 2)


def test_user_means_of_a_conversation_with_tools_whose_system_turn_is_merged(
    tiny_llama: Any, chat_tokenizer: Any, tmp_path: Path
) -> None:
    """The mean is over what the user wrote: neither over the system turn in front of it, nor over a tool's answer."""
    tokenizer = copy.deepcopy(chat_tokenizer)
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% for m in messages "
        "%}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}"
    )
    encoded = encode_within(tokenizer, [TALK[0], *TOOLS], None, "refuse")
    sae = load_sae(save_sae(tmp_path / "sae"))
    user, _ = conversation_activations(tiny_llama, sae, tokenizer, encoded, ExtractOptions(LAYERS))
    merged = said("user: You are a pirate.\n\nTide?", *(f"{m['role']}: {m['content']}" for m in TOOLS[1:]))
    text = tokenizer.apply_chat_template(merged, tokenize=False)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    start = text.index("Tide?")
    tokens = [t for t, (a, b) in enumerate(encoding.offset_mapping) if a < start + 5 and b > start]
    with torch.inference_mode():
        states = tiny_llama(input_ids=torch.tensor([encoding.input_ids]), output_hidden_states=True).hidden_states
    for i, layer in enumerate(LAYERS):
        np.testing.assert_allclose(user.means[0, i], states[layer + 1][0, tokens].mean(0), atol=1e-4)
    assert user.n_tokens.tolist()[1] == 0 and user.n_tokens[2] > 0 and np.isnan(user.means[1]).all()


def test_user_means_of_a_truncated_conversation_are_those_of_what_is_left(
    tiny_llama: Any, chat_tokenizer: Any, tmp_path: Path
) -> None:
    cut = encode_within(chat_tokenizer, TALK, length(chat_tokenizer, TALK) - 1, "truncate")
    sae = load_sae(save_sae(tmp_path / "sae"))
    user, _ = conversation_activations(tiny_llama, sae, chat_tokenizer, cut, ExtractOptions(LAYERS))
    left = by_hand(tiny_llama, chat_tokenizer, [TALK[0], *TALK[3:]], [["Who said so?"], ["Who?"]])
    assert cut.dropped == 2
    np.testing.assert_allclose(user.means, left, atol=1e-4)


def test_tokens_and_user_means_come_from_one_forward_pass(tiny_llama: Any, chat_tokenizer: Any, tmp_path: Path) -> None:
    encoded = encode_within(chat_tokenizer, TALK, None, "refuse")
    sae, passes = load_sae(save_sae(tmp_path / "sae")), []
    counting = tiny_llama.base_model.layers[0].register_forward_pre_hook(lambda *_: passes.append(1))
    user, blocks = conversation_activations(tiny_llama, sae, chat_tokenizer, encoded, ExtractOptions(LAYERS))
    assert len(list(blocks)) > 0 and np.isfinite(user.means).all()
    counting.remove()
    assert len(passes) == 1


def test_without_layers_no_user_means_are_kept(tiny_llama: Any, chat_tokenizer: Any, tmp_path: Path) -> None:
    encoded = encode_within(chat_tokenizer, TALK, None, "refuse")
    sae = load_sae(save_sae(tmp_path / "sae"))
    user, blocks = conversation_activations(tiny_llama, sae, chat_tokenizer, encoded, ExtractOptions())
    assert user.means.shape[:2] == (3, 0) and sum(len(block.position) for block in blocks) > 0
    save_user_means(tmp_path / "talk.npz", user, [])
    assert (load_npz(tmp_path / "talk.npz", "n_tokens")[0] > 0).all()


def length(tokenizer: Any, messages: list[Message]) -> int:
    return len(encode_within(tokenizer, messages, None, "refuse").encoded.ids)


def test_too_long_is_refused_with_both_numbers(chat_tokenizer: Any) -> None:
    n = length(chat_tokenizer, TALK)
    assert encode_within(chat_tokenizer, TALK, n, "refuse").dropped == 0
    with pytest.raises(UserError, match=rf"has {n} tokens, the model's context is {n - 1}; .*too_long: truncate"):
        encode_within(chat_tokenizer, TALK, n - 1, "refuse")


def test_truncation_takes_whole_exchanges_off_the_front(chat_tokenizer: Any) -> None:
    n = length(chat_tokenizer, TALK)
    cut = encode_within(chat_tokenizer, TALK, n - 1, "truncate")
    assert cut.dropped == 2 and [span.message_index for span in cut.spans] == [4, 6]
    kept = [TALK[0], *TALK[3:]]
    assert cut.encoded.ids[: len(prompt_ids(chat_tokenizer, kept[:2]))] == prompt_ids(chat_tokenizer, kept[:2])
    last = length(chat_tokenizer, [TALK[0], *TALK[5:]])
    assert encode_within(chat_tokenizer, TALK, last, "truncate").dropped == 4
    with pytest.raises(UserError, match=rf"has {n} tokens, the model's context is {last - 1}; shorten it$"):
        encode_within(chat_tokenizer, TALK, last - 1, "truncate")


def test_truncation_of_a_long_conversation_tries_few_starts(
    chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tokenized 159 of 200 exchanges before, half a minute for 42,000 tokens."""
    from personascope.extraction import extract_conversation

    talk = [{"role": ("user", "assistant")[i % 2], "content": f"{100 + i} is said"} for i in range(200)]
    limit, tried = length(chat_tokenizer, talk[150:]), []

    def counted(tokenizer: Any, messages: Sequence[Message]) -> Encoded:
        tried.append(len(messages))
        return encode_conversation(tokenizer, messages)

    monkeypatch.setattr(extract_conversation, "encode_conversation", counted)
    cut = encode_within(chat_tokenizer, talk, limit, "truncate")
    assert (cut.dropped, cut.spans[0].message_index, len(cut.encoded.ids)) == (150, 151, limit)
    assert len(tried) < 12


def test_an_answer_that_is_rendered_in_part_is_refused() -> None:
    talk = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "With </think> at last."}]
    with pytest.raises(UserError, match=r"message 1 \(assistant\): the chat template takes a part of its answer"):
        encode_within(real("qwen3"), talk, None, "refuse")
    assert len(encode_within(real("qwen2_5"), talk, None, "refuse").spans) == 1
    talk[1]["content"] = "<think>Hm.</think>At last."
    assert len(encode_within(real("qwen3"), talk, None, "refuse").spans) == 1
