"""Traces: projections and surprise against formulas of their own, which message a token is of, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from personascope.errors import UserError
from personascope.extraction.monitor import monitor
from personascope.formats.directions import Directions
from personascope.formats.traces import Trace, empty_trace, read_trace, write_trace
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import monitor as operation
from personascope.models import projection
from personascope.models.layout import token_layout
from personascope.models.loading import ModelSpec
from personascope.models.projection import common_layers, logits_of, make_probe
from personascope.models.spans import Message, encode_conversation, message_spans
from tests.helpers.directions import drawn, save_tiny, saved

TALK = [
    {"role": "system", "content": "You are a pirate."},
    {"role": "user", "content": "What is the meaning of life?"},
    {"role": "assistant", "content": "The answer is forty two 🙂."},
    {"role": "user", "content": "You are a pirate."},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "Who said so?"},
    {"role": "assistant", "content": "The assistant said it to the user."},
]
LAYERS = [0, 1]  # behind the last block, `hidden_states` have the final norm in them
NAMES = {"axis": 1, "trait:calm": 2}


def directions() -> dict[str, Directions]:
    return {name: drawn(name, [0, 1, 2], seed) for name, seed in NAMES.items()}


def traced(model: Any, tokenizer: Any, talk: list[Message] = TALK) -> Trace:
    probe = make_probe(model, "tiny", directions(), LAYERS)
    return monitor(model, tokenizer, talk, encode_conversation(tokenizer, talk), probe)


@pytest.mark.parametrize("logit_bytes", [1, 5000, 1 << 26])
@torch.inference_mode()
def test_equals_hidden_states_and_log_softmax(
    tiny_llama: Any, chat_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, logit_bytes: int
) -> None:
    monkeypatch.setattr(projection, "LOGIT_BYTES", logit_bytes)
    trace = traced(tiny_llama, chat_tokenizer)
    ids = chat_tokenizer(chat_tokenizer.apply_chat_template(TALK, tokenize=False), add_special_tokens=False).input_ids
    out = tiny_llama(input_ids=torch.tensor([ids]), output_hidden_states=True)
    assert trace.columns == [f"{name}@{layer}" for layer in LAYERS for name in NAMES]
    for i, column in enumerate(trace.columns):
        name, layer = column.split("@")
        vector = drawn(name, [0, 1, 2], NAMES[name]).vectors[name][int(layer)].astype(np.float64)
        h = out.hidden_states[int(layer) + 1][0].double().numpy()
        np.testing.assert_allclose(trace.projections[:, i], h @ vector / np.linalg.norm(vector), atol=1e-4)
    log_p = torch.log_softmax(out.logits[0].double(), -1)
    expected = [-float(log_p[i - 1, ids[i]]) for i in range(1, len(ids))]
    np.testing.assert_allclose(trace.surprise[1:], expected, atol=1e-4)
    assert np.isnan(trace.surprise[0]) and trace.token_ids.tolist() == ids


def test_every_token_has_its_message_and_template_tokens_are_marked(tiny_llama: Any, chat_tokenizer: Any) -> None:
    trace = traced(tiny_llama, chat_tokenizer)
    inside = np.zeros(len(trace), bool)
    for span in message_spans(chat_tokenizer, TALK, ("system", "user", "assistant")):
        inside[span.start : span.end] = True
        assert (trace.message_index[span.start : span.end] == span.message_index).all()
    assert (trace.in_content == inside).all() and (np.diff(trace.message_index) >= 0).all()
    begins = [i for i, token in enumerate(trace.tokens) if token == "<|im_start|>"]
    assert np.flatnonzero(np.diff(trace.message_index, prepend=-1)).tolist() == begins, "each message from its mark on"
    assert trace.roles == [TALK[i]["role"] for i in trace.message_index]


def test_a_system_turn_that_the_template_adds_is_of_the_first_message_and_no_content(chat_tokenizer: Any) -> None:
    import copy

    tokenizer = copy.deepcopy(chat_tokenizer)
    tokenizer.chat_template = "<|im_start|>system\nThe answer.<|im_end|>\n" + chat_tokenizer.chat_template
    talk = TALK[1:4]
    encoded = encode_conversation(tokenizer, talk)
    layout = token_layout(tokenizer, talk, encoded)
    first = encoded.ids.index(encoded.ids[0], 1)
    assert (layout.message_index[:first] == 0).all() and not layout.in_content[:first].any()


def test_the_head_of_a_family_with_a_soft_cap() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "final_logit_softcapping": 0.5}
    model = Gemma2ForCausalLM(Gemma2Config(**sizes, **heads, initializer_range=0.5)).eval()
    ids = torch.randint(0, 50, (1, 9))
    with torch.inference_mode():
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        got = logits_of(model, hidden)
        torch.testing.assert_close(got, model(input_ids=ids).logits[0], atol=1e-5, rtol=1e-5)
        assert got.abs().max() <= 0.5 and "forward" not in model.base_model.__dict__


def test_the_file_keeps_all_of_it(tiny_llama: Any, chat_tokenizer: Any, tmp_path: Path) -> None:
    trace = traced(tiny_llama, chat_tokenizer)
    write_trace(tmp_path / "t.parquet", trace, {"model": "tiny"})
    read = read_trace(tmp_path / "t.parquet")
    assert (read.columns, read.tokens, read.roles) == (trace.columns, trace.tokens, trace.roles)
    for name in ("message_index", "token_ids", "in_content", "surprise", "projections"):
        np.testing.assert_array_equal(getattr(read, name), getattr(trace, name))
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column("surprise").null_count == 1 and table.column("position").to_pylist() == list(range(len(trace)))
    write_trace(tmp_path / "empty.parquet", empty_trace(["axis@1"]), {"error": "why"})
    empty = read_trace(tmp_path / "empty.parquet")
    assert len(empty) == 0 and empty.metadata["error"] == "why" and empty.projections.shape == (0, 1)


REFUSED = {
    "layer": (lambda: {"axis": drawn("axis", [0, 2])}, "axis is not known at layer 1; it is at layers 0, 2"),
    "width": (lambda: {"axis": drawn("axis", [0, 1], width=16)}, "16 dimensions, but d_model of tiny is 32"),
    "model": (lambda: {"axis": drawn("axis", [0, 1], model="other")}, "directions of other, not of tiny"),
    "depth": (lambda: {"axis": drawn("axis", [0, 1, 7])}, "layer 7: tiny has layers 0 to 2"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_directions_that_do_not_fit_are_refused(tiny_llama: Any, case: str) -> None:
    make, said = REFUSED[case]
    with pytest.raises(UserError, match=said):
        make_probe(tiny_llama, "tiny", make(), LAYERS)


def test_layers_of_all_directions() -> None:
    assert common_layers({"a": drawn("a", [0, 1, 2]), "b": drawn("b", [2, 1])}) == [1, 2]
    with pytest.raises(UserError, match="a at 0; b at 1"):
        common_layers({"a": drawn("a", [0]), "b": drawn("b", [1])})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Any, chat_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", tiny_llama, chat_tokenizer)


def request(folder: Path, tmp_path: Path, talk: Any, **changed: Any) -> operation.Request:
    source = tmp_path / "talk.json"
    source.write_text(talk if isinstance(talk, str) else json.dumps(talk))
    axis = saved(tmp_path / "axis.safetensors", drawn("axis", [0, 1], 1))
    values: dict[str, Any] = {
        "model": ModelSpec(str(folder), dtype="float32", device="cpu"),
        "store": str(tmp_path / "store"),
        "code": "",
        "conversation_file": str(source),
        "names": ["axis"],
        "directions": [str(axis)],
        "how": {},
        "layers": [],
        "too_long": "truncate",
        "trace": str(tmp_path / "trace.parquet"),
    }
    return operation.Request(**(values | changed))


def test_a_conversation_that_is_cut_counts_messages_as_its_file(folder: Path, tmp_path: Path) -> None:
    long = [TALK[0], *[message for i in range(12) for message in (TALK[1], TALK[2])]]
    made = request(folder, tmp_path, long)
    operation.run(Loaded(), lambda line: None, made)
    trace = read_trace(made.trace)
    dropped = trace.metadata["dropped_messages"]
    assert dropped > 0 and dropped % 2 == 0 and len(trace) <= 512
    assert sorted(set(trace.message_index.tolist())) == [0, *range(1 + dropped, len(long))]
    assert trace.columns == ["axis@0", "axis@1"] and trace.metadata["conversation"]["messages"] == long


def test_a_conversation_that_is_no_conversation_fails_alone(folder: Path, tmp_path: Path) -> None:
    made, said = request(folder, tmp_path, "{}"), []
    operation.run(Loaded(), said.append, made)
    assert len(read_trace(made.trace)) == 0 and "talk.json" in read_trace(made.trace).metadata["error"]
    assert said[0].startswith("error: ")


def test_a_layer_where_a_direction_is_unknown_is_named_with_its_key(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config, monitor: axis is not known at layer 2; it is at layers 0, 1"):
        operation.run(Loaded(), lambda line: None, request(folder, tmp_path, TALK, layers=[2]))
    assert not (tmp_path / "trace.parquet").exists()
