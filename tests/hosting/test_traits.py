"""Responses of a trait and their residual stream, by a tiny model and through the store."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personascope.directions.traits.report import write_evaluation
from personascope.directions.traits.rows import Thresholds
from personascope.directions.traits.vectors import write_trait_vectors
from personascope.errors import UserError
from personascope.formats.directions import load_directions
from personascope.formats.files import iter_jsonl, write_json
from personascope.formats.trait_activations import READINGS, read_trait_activations
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import extract_trait, generate_trait
from personascope.models.loading import ModelSpec
from personascope.models.spans import message_spans

TRAIT = {
    "instruction": [{"pos": "Grumble.", "neg": "Smile."}],
    "questions": ["Who?", "What?"],
    "evaluation_questions": ["Where?"],
    "adjective": {"pos": "angry", "neg": "kind"},
}


@pytest.fixture
def folder(tmp_path: Path, tiny_llama: Any, chat_tokenizer: Any) -> Path:
    tiny_llama.save_pretrained(tmp_path / "model")
    chat_tokenizer.save_pretrained(tmp_path / "model")
    write_json(tmp_path / "grumpy.json", TRAIT)
    return tmp_path


def common(folder: Path) -> dict[str, Any]:
    spec = ModelSpec(str(folder / "model"), dtype="float32", device="cpu")
    return {"model": spec, "store": str(folder / "store"), "code": "c", "device": "cpu"}


def generated(folder: Path, loaded: Loaded, **changes: Any) -> list[dict[str, Any]]:
    engine: dict[str, Any] = {"model_name": "m", "backend": "transformers", "engine": {}, "backend_options": {}}
    engine |= {"temperature": 1.0, "top_p": 1.0, "max_tokens": 5, "max_model_len": 400, "seed": 0}
    asked: dict[str, Any] = {"pairs": "all", "questions": "all", "evaluation_questions": "all", "samples": 2}
    request = generate_trait.Request(
        **common(folder),
        **engine,
        **(asked | changes),
        trait_file=str(folder / "grumpy.json"),
        responses=str(folder / "grumpy.jsonl"),
    )
    said: list[str] = []
    generate_trait.run(loaded, said.append, request)
    (folder / "said.txt").write_text("\n".join(said))
    return list(iter_jsonl(folder / "grumpy.jsonl"))


def test_rows_carry_their_keys_and_come_from_the_store_the_second_time(folder: Path) -> None:
    loaded = Loaded()
    rows = generated(folder, loaded)
    assert len(rows) == 2 * 2 * 2 + 2 * 3
    for row in rows:
        assert {"role", "set", "pair", "polarity", "question_id", "sample", "seed", "response"} <= row.keys()
    assert len({row["seed"] for row in rows}) == len(rows)
    first = rows[0]
    assert first["conversation"][0] == {"role": "system", "content": "You are an angry assistant. Grumble."}
    assert [m["role"] for m in rows[-1]["conversation"]] == ["user", "assistant"] and rows[-1]["polarity"] == "neutral"
    fewer = generated(folder, loaded, questions=1, samples=1)
    assert "5 responses, 5 of them in the store" in (folder / "said.txt").read_text()
    assert all(row in rows for row in fewer)


def test_readings_of_all_layers_are_means_of_hidden_states(folder: Path, tiny_llama: Any, chat_tokenizer: Any) -> None:
    loaded = Loaded()
    rows = generated(folder, loaded)
    request = extract_trait.Request(
        **common(folder),
        responses=str(folder / "grumpy.jsonl"),
        activations=str(folder / "grumpy.npz"),
        batch_tokens=128,
    )
    extract_trait.run(loaded, print, request)
    found = {reading: read_trait_activations(folder / "grumpy.npz", reading) for reading in READINGS}
    metadata = found["response_avg"][1]
    assert (
        metadata["layers"] == [0, 1, 2]
        and metadata["rows"] == len(rows)
        and "hidden_states" in metadata["layer_convention"]
    )
    for i in (0, 5, len(rows) - 1):
        messages = rows[i]["conversation"]
        (span,) = message_spans(chat_tokenizer, messages)
        ids = chat_tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        with torch.inference_mode():
            states = tiny_llama(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer in range(2):  # the last of hidden_states is normalized, the output of the last block is not
            h = states[layer + 1][0].numpy()
            expected = {"response_avg": h[span.start : span.end].mean(0) if span.end > span.start else 0 * h[0]}
            expected |= {"prompt_avg": h[: span.start].mean(0), "prompt_last": h[span.start - 1]}
            if span.end > span.start:
                for reading, values in expected.items():
                    np.testing.assert_allclose(found[reading][0][i, layer], values, atol=2e-5)
    said: list[str] = []
    (folder / "grumpy.npz").unlink()
    extract_trait.run(loaded, said.append, request)
    assert said == ["grumpy: activations are in the store"] and (folder / "grumpy.npz").exists()


def test_activations_that_are_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, metadata=np.array(json.dumps({"blocks": 1, "rows": 3})), block_0=np.zeros((2, 3, 1, 4), np.float32))
    with pytest.raises(UserError, match="2 rows of 3"):
        read_trait_activations(path, "response_avg")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not a readable"):
        read_trait_activations(path, "response_avg")


@pytest.mark.model
def test_a_trait_of_the_embedded_model_from_its_file_to_its_evaluation(tmp_path: Path, model: Path) -> None:
    """Two pairs, four questions each, twelve tokens: a plumbing test, whose vector is worth what it says."""
    loaded, trait_file = Loaded(), Path(__file__).parents[2] / "resources/traits/paternalism.json"
    common: dict[str, Any] = {"model": ModelSpec(str(model)), "store": str(tmp_path / "store"), "code": "c"}
    engine: dict[str, Any] = {"model_name": "m", "backend": "transformers", "engine": {}, "backend_options": {}}
    engine |= {"temperature": 1.0, "top_p": 1.0, "max_tokens": 12, "max_model_len": 600, "seed": 0}
    asked: dict[str, Any] = {"pairs": [0, 2], "questions": 4, "evaluation_questions": 4, "samples": 1}
    responses, activations = tmp_path / "paternalism.jsonl", tmp_path / "paternalism.npz"
    files: dict[str, Any] = {"trait_file": str(trait_file), "responses": str(responses)}
    generate_trait.run(loaded, print, generate_trait.Request(**common, **engine, **asked, **files))
    reading: dict[str, Any] = {"responses": str(responses), "activations": str(activations), "batch_tokens": 1024}
    extract_trait.run(loaded, print, extract_trait.Request(**common, **reading))
    judge: dict[str, Any] = {"judgements": None, "worth": None, "filter": "none", "limits": Thresholds()}
    vectors = tmp_path / "vectors.safetensors"
    made: dict[str, Any] = {"vectors": vectors, "attrition": tmp_path / "attrition.csv"}
    write_trait_vectors(trait_file, responses, activations, **judge, **made)
    found = load_directions(vectors)
    assert found.layers == list(range(30)) and found.d_model == 576 and found.metadata["kept"] == 8
    rows = list(iter_jsonl(responses))
    h, _ = read_trait_activations(activations, "response_avg")
    ends = [
        [i for i, row in enumerate(rows) if (row["set"], row["polarity"]) == ("extraction", e)] for e in ("pos", "neg")
    ]
    expected = h[ends[0]].mean(0) - h[ends[1]].mean(0)
    np.testing.assert_allclose(found.vectors["response_avg"], expected, atol=1e-3)
    figures = {kind: [tmp_path / f"{name}.{kind}" for name in ("evaluation", "screen")] for kind in ("png", "svg")}
    outputs: dict[str, Any] = {name: tmp_path / name for name in ("evaluation", "layers", "projections")} | figures
    write_evaluation(responses, activations, vectors, **judge, seed=0, subtitle="m", outputs=outputs)
    said = json.loads((tmp_path / "evaluation").read_text())
    assert said["evaluation_rows"] == 2 * 2 * 4 + 4 and said["held_out"]["splits"] == 20 and said["judge"] is None
