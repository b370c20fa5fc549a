"""Contexts and the logit lens as outputs of the model host's operations, by a tiny model and through the store."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from personascope.errors import UserError
from personascope.formats.contexts import load_activity, load_contexts
from personascope.formats.features import iter_features
from personascope.formats.files import write_jsonl
from personascope.formats.logit_lens import LogitLens
from personascope.formats.responses import NEVER_ENDED
from personascope.formats.tables import open_parquet
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import extract, logit_lens
from personascope.hosting.operations.extract import ActivationsRequest, note_fit
from personascope.models.loading import ModelSpec
from personascope.models.saes import LoadedSAE
from tests.extraction.test_extract import D_SAE, save_sae
from tests.extraction.test_items import row_of

QUESTIONS = ["Who?", "What?", "Why?"]


@pytest.fixture
def request_fields(tmp_path: Path, tiny_llama: Any, chat_tokenizer: Any) -> dict[str, Any]:
    tiny_llama.save_pretrained(tmp_path / "model")
    chat_tokenizer.save_pretrained(tmp_path / "model")
    spec = ModelSpec(str(tmp_path / "model"), dtype="float32", device="cpu")
    common = {"model": spec, "store": str(tmp_path / "store"), "code": "c", "device": "cpu"}
    return common | {"sae": save_sae(tmp_path / "sae"), "residual_layers": [1], "chunk_tokens": 3}


def extracted(
    folder: Path, fields: dict[str, Any], k: int, rows: list[dict[str, Any]] | None = None, selection: str = ""
) -> list[str]:
    rows = rows or [
        {
            "prompt_index": 0,
            "question_id": i,
            "question": question,
            "conversation": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"The answer is {'sea ' * i}of course"},
            ],
        }
        for i, question in enumerate(QUESTIONS)
    ]
    write_jsonl(folder / "pirate.jsonl", rows)
    outputs: dict[str, Any] = {name: str(folder / f"out{k}.{name}") for name in ("features", "residuals")}
    if k:
        outputs |= {name: str(folder / f"out{k}.{name}") for name in ("contexts", "activity")} | {"k": k}
    given: dict[str, Any] = {
        "responses": str(folder / "pirate.jsonl"),
        "token_selection": selection or "response_only",
        "batch_tokens": 64,
    }
    said: list[str] = []
    extract.run(Loaded(), said.append, extract.Request(**fields, **given, **outputs))
    return said


def test_contexts_are_those_of_the_features_file(tmp_path: Path, request_fields: dict[str, Any]) -> None:
    extracted(tmp_path, request_fields, 0)
    extracted(tmp_path, request_fields, 3)
    (plain,), (rows,) = (list(iter_features(tmp_path / f"out{k}.features")) for k in (0, 3))
    np.testing.assert_array_equal(plain.max, rows.max)
    found = load_contexts(tmp_path / "out3.contexts")
    top = found.take(found.top)
    # With as many places as responses, every feature has each response that it is active in, at the peak of the file.
    dense = rows.dense("max", D_SAE)
    assert len(top) == np.count_nonzero(dense)
    np.testing.assert_allclose(top.value, dense[top.row, top.feature])
    activity, texts, metadata = load_activity(tmp_path / "out3.activity")
    assert activity.n_tokens == rows.n_tokens.sum()
    assert texts.questions == QUESTIONS
    assert set(texts.names) == {"pirate"}
    np.testing.assert_array_equal(np.diff(texts.offsets), rows.n_tokens)
    np.testing.assert_allclose(activity.total, (rows.dense("mean", D_SAE) * rows.n_tokens[:, None]).sum(0), rtol=1e-4)
    assert metadata["layer_convention"]
    said = "".join(texts.pieces[token] for token in texts.token_ids[: texts.offsets[1]].tolist())
    assert said == "The\u0120answer\u0120is\u0120of\u0120course"


def test_how_well_the_sae_fits_is_said_and_kept(tmp_path: Path, request_fields: dict[str, Any]) -> None:
    file = tmp_path / "sae" / "cfg.json"
    cfg = json.loads(file.read_text())
    file.write_text(json.dumps(cfg | {"metadata": cfg["metadata"] | {"model_name": "gemma-2-2b"}}))
    said = extracted(tmp_path, request_fields, 0)
    metadata = open_parquet(tmp_path / "out0.features")[1]
    assert metadata["fvu"] == open_parquet(tmp_path / "out0.residuals")[1]["fvu"] > 0.5  # random weights
    assert metadata["sae_model"] == "gemma-2-2b"
    tokens = sum(row["n_tokens"] for row in pq.read_table(tmp_path / "out0.features").to_pylist())
    assert 0 < tokens < 128
    assert f"the SAE leaves {metadata['fvu']:.1%} of the variance of the first {tokens} tokens unexplained" in said
    assert not any("FVU" in line for line in said), "of few tokens it says little"
    assert any(line.startswith("warning: the SAE was trained on gemma-2-2b, the model is") for line in said)


@pytest.mark.parametrize(("fraction", "tokens", "warned"), [(0.51, 512, True), (0.49, 512, False), (0.51, 127, False)])
def test_an_sae_that_hardly_fits_is_warned_of(fraction: float, tokens: int, warned: bool) -> None:
    sae, said = cast(LoadedSAE, SimpleNamespace(trained_on=None)), list[str]()
    request = cast(ActivationsRequest, SimpleNamespace(model=SimpleNamespace(id="a/model")))
    assert note_fit(said.append, request, sae, fraction, tokens) == {"fvu": fraction}
    assert any(f"warning: FVU {fraction:.2f}: this SAE hardly reconstructs" in line for line in said) == warned


@pytest.mark.parametrize("layers", [[1], []])
def test_an_overflow_in_float16_stops_with_what_to_do_and_writes_nothing(
    tmp_path: Path, request_fields: dict[str, Any], tiny_llama: Any, layers: list[int]
) -> None:
    big = copy.deepcopy(tiny_llama)
    big.model.layers[0].mlp.down_proj.weight.mul_(1e5)  # beyond 65,504 in the residual stream
    big.save_pretrained(tmp_path / "model")
    spec = replace(request_fields["model"], dtype="float16")
    fields = request_fields | {"residual_layers": layers}
    with pytest.raises(UserError, match=r"layer 1 .* rows of activations are not finite; .* model.dtype: bfloat16"):
        extracted(tmp_path, fields | {"model": spec}, 0)
    assert not list(tmp_path.glob("out*")) and not list((tmp_path / "store").rglob("*.parquet"))
    extracted(tmp_path, fields | {"model": replace(spec, dtype="bfloat16")}, 0)
    (rows,) = iter_features(tmp_path / "out0.features")
    assert np.isfinite(rows.mean).all() and len(rows) == 3


def test_generation_and_readings_stop_at_an_overflow(tiny_llama: Any) -> None:
    from personascope.backends import Request, Sampling
    from personascope.backends.local import TransformersBackend
    from personascope.extraction.extract import Item
    from personascope.extraction.readings import read_layers

    big = copy.deepcopy(tiny_llama)
    big.model.layers[0].mlp.down_proj.weight.mul_(1e5)
    big = big.to(torch.float16)
    with pytest.raises(UserError, match=r"logits: 1 of 1 rows of activations are not finite; .* bfloat16"):
        list(TransformersBackend(big, [0]).generate([Request([1, 2, 3], 0, 4)], Sampling(temperature=0)))
    with pytest.raises(UserError, match=r"layer 1: 1 of 1 rows .* bfloat16"):
        list(read_layers(big, [Item([1, 2, 3], [(1, 3)])], [1]))


def test_what_is_in_the_store_is_linked(tmp_path: Path, request_fields: dict[str, Any]) -> None:
    extracted(tmp_path, request_fields, 3)
    (tmp_path / "out3.contexts").unlink()
    assert extracted(tmp_path, request_fields, 3) == ["pirate: features are in the store"]
    assert len(load_contexts(tmp_path / "out3.contexts"))


def test_the_lens_is_written_with_what_it_is_of(tmp_path: Path, request_fields: dict[str, Any]) -> None:
    said: list[str] = []
    logit_lens.run(Loaded(), said.append, logit_lens.Request(**request_fields, lens=str(tmp_path / "l.npz")))
    assert LogitLens.load(tmp_path / "l.npz").promoted.shape[0] == D_SAE
    assert said == [f"logit lens of {D_SAE} features"]


def test_reasoning_is_left_out_and_counted_where_it_never_ended(
    tmp_path: Path, request_fields: dict[str, Any], chat_tokenizer: Any
) -> None:
    texts = [("<think>\nThe sea\n</think>\n\nA language", "stop"), ("<think>\nThe sea is", "length"), ("I am", "abort")]
    rows = [row_of(chat_tokenizer, *text) | {"question_id": i} for i, text in enumerate(texts)]
    said = extracted(tmp_path, request_fields, 0, rows)
    (found,) = iter_features(tmp_path / "out0.features")
    answer, own = (len(chat_tokenizer(text).input_ids) for text in ("A language", "I am"))
    assert found.n_tokens.tolist() == [answer, 0, own]
    assert not found.dense("max", D_SAE)[1].any()
    counts = open_parquet(tmp_path / "out0.features")[1]["counts"]
    assert counts == {"responses": 3, NEVER_ENDED: 1, "ended with finish_reason 'abort'": 1}
    assert f"pirate: 1 of 3 responses {NEVER_ENDED}: they are left out of all means" in said
    extracted(tmp_path, request_fields, 0, rows, "response_with_reasoning")
    (whole,) = iter_features(tmp_path / "out0.features")
    assert (whole.n_tokens > found.n_tokens).tolist() == [True, True, False]
