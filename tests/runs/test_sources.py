"""Names of models, and the SAEs that SAELens knows: what is refused when the configuration is read.

The list of pretrained SAEs is the installed one.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from personascope.errors import UserError, did_you_mean
from personascope.formats.saes import other_model
from personascope.runs.pretrained import LIST, check_pretrained, find_release, layer_of
from personascope.runs.sources import check_model_id, model_config_file, text_value
from tests.helpers.experiments import SAE, read, write

SCOPE = "gemma-scope-2b-pt-res-canonical"


@pytest.mark.parametrize(
    "model_id",
    [
        "google/gemma-2-2b-it",
        "openai-community/gpt2",
        "results/models/SmolLM2-135M-Instruct",
        "/a/b/models/SmolLM2-135M-Instruct",
    ],
)
def test_hub_ids_and_the_embedded_model_are_taken(model_id: str) -> None:
    check_model_id(model_id)


@pytest.mark.parametrize(
    ("model_id", "said"),
    [
        ("gpt2", "its full name is openai-community/gpt2"),
        ("gpt2-medium", "its full name is openai-community/gpt2-medium"),
        ("distilgpt2", "its full name is distilbert/distilgpt2"),
        ("bert-base-uncased", "its full name is google-bert/bert-base-uncased"),
        ("gemma-2-2b-it", "no folder here, and a Hugging Face id has an organization in front"),
        ("./models/mine", "no folder here and no Hugging Face id"),
        ("models/deep/mine", "no folder here and no Hugging Face id"),
        ("https://huggingface.co/google/gemma-2-2b-it/tree/main", "is a web address; give google/gemma-2-2b-it"),
    ],
)
def test_any_other_name_is_refused_with_what_to_give(model_id: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^config, model.id: {model_id}") as error:
        check_model_id(model_id)
    assert said in str(error.value) and ("full name" in said) is ("full name" in str(error.value))


def test_a_folder_needs_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("adapter/adapter_config.json", "{}")
    write("above/inner/config.json", "{}")
    check_model_id("above/inner")
    for folder, said in (("adapter", "LoRA adapter"), ("above", "one of the folders in it: inner")):
        with pytest.raises(UserError, match=r"without config\.json") as error:
            check_model_id(folder)
        assert said in str(error.value)


def test_a_hub_model_s_config_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--tiny"
    write(str(folder / "snapshots/abc/config.json"), '{"text_config": {"num_hidden_layers": 4, "hidden_size": 16}}')
    write(str(folder / "refs/main"), "abc")
    for revision in (None, "main", "abc"):
        assert text_value(model_config_file("org/tiny", revision), "num_hidden_layers") == 4
    assert text_value(model_config_file("org/tiny", "other"), "num_hidden_layers") is None


def test_layers_and_width_are_held_against_the_model_s_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "cache"))
    cached = "cache/models--org--tiny/snapshots/main/config.json"
    write(cached, '{"num_hidden_layers": 4, "hidden_size": 16}')
    assert (read().depth, read().d_model) == (4, 16)
    assert read({"extraction": {"residual_layers": "all"}}).config["extraction"]["residual_layers"] == [0, 1, 2, 3]
    fits = {"d_in": 16, "metadata": {"hook_name": "blocks.3.hook_resid_post"}}
    write(f"{SAE}/cfg.json", json.dumps(fits))
    assert read().sae_layer == 3
    trained = {"sae": {"path": "results/saes/mine"}, "train_sae": {"layer": 9}}
    wrong = [
        ({"model": {"layers": 5}}, fits, "model.layers: 5, but "),
        (
            {"extraction": {"residual_layers": [3, 4]}},
            fits,
            "extraction.residual_layers: layer 4; the model has layers 0 to 3",
        ),
        ({}, fits | {"metadata": {"hook_name": "model.layers.9.mlp"}}, "sae: layer 9; the model has layers 0 to 3"),
        ({}, fits | {"d_in": 24}, "sae.path: the SAE reads 24 dimensions, the model's d_model is 16"),
        ({"sae": {"path": None, "release": "org/x", "id": "layer_7/width_16k"}}, fits, "sae: layer 7"),
        (trained, fits, "train_sae.layer: layer 9; the model has layers 0 to 3"),
    ]
    for overlay, sae, said in wrong:
        write(f"{SAE}/cfg.json", json.dumps(sae))
        with pytest.raises(UserError) as error:
            read(overlay)
        assert said in str(error.value)


def test_the_list_is_read_release_by_release_as_a_whole_reader_reads_it() -> None:
    package = find_spec("sae_lens")
    assert package and package.origin
    whole = yaml.load((Path(package.origin).parent / LIST).read_text(), yaml.CSafeLoader)
    for name in list(whole)[::7]:
        release = find_release(name)
        assert release and release.model == whole[name]["model"], name
        assert list(release.ids) == [sae["id"] for sae in whole[name]["saes"]]
    assert find_release("nothing") is None and len(whole) > 100


def test_neither_torch_nor_sae_lens_is_imported_for_it() -> None:
    code = f"""
import sys
from personascope.runs.pretrained import find_release
assert find_release({SCOPE!r}).model == "gemma-2-2b"
assert not {{"torch", "sae_lens", "numpy"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("release", "sae_id", "said"),
    [
        (
            "gemma-scope-2b-pt-res-canonnical",
            "x",
            f"no release 'gemma-scope-2b-pt-res-canonnical'; the nearest: {SCOPE}",
        ),
        (SCOPE, "layer_12/width_16k", "the nearest: layer_12/width_16k/canonical, layer_12/width_65k/canonical"),
        # The right layer and width first, however alike another layer is spelled.
        ("gemma-scope-2-27b-it-res", "layer_40_width_65k_l0_med", "the nearest: layer_40_width_65k_l0_medium, "),
        (
            "gpt2-small-res-jb",
            "blocks.8.hook_resid_post",
            "the release gpt2-small-resid-post-v5-32k has one of this id",
        ),
        (
            "gemma-scope-2-27b-it-res",
            "layer_20_width_65k_l0_big",
            "of layer 20 the release gemma-scope-2-27b-it-res-all has ",
        ),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(release: str, sae_id: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        check_pretrained(release, sae_id)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_known_names_and_repositories_of_the_hub_are_taken() -> None:
    check_pretrained(SCOPE, "layer_12/width_16k/canonical")
    check_pretrained("somebody/their-saes", "layer_3")
    assert [
        layer_of(name) for name in ("l5r_8x", "layer0", "blocks.8.hook_resid_pre", "model.layers.7", "embedding")
    ] == [
        *(5, 0, 8, 7, None),
    ]


def test_an_sae_of_another_model_is_warned_of(folder: Path) -> None:
    for release, model in (
        (SCOPE, "google/gemma-2-2b"),
        ("gpt2-small-res-jb", "openai-community/gpt2"),
        ("llama-3-8b-it-res-jh", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("mistral-7b-res-wg", "mistralai/Mistral-7B-v0.1"),
    ):
        found = find_release(release)
        assert found and other_model(found.model, model) is None, release
    assert other_model("gemma-2-2b", "google/gemma-2-2b-it") is not None
    sae = {"sae": {"path": None, "release": SCOPE, "id": "layer_12/width_16k/canonical"}}
    (warning,) = read(sae, {"model": {"id": "google/gemma-2-2b-it"}}).warnings()
    assert "the SAE was trained on gemma-2-2b, the model is google/gemma-2-2b-it" in warning
    assert read(sae, {"model": {"id": "google/gemma-2-2b"}}).warnings() == []


def test_an_axis_needs_its_anchor(folder: Path) -> None:
    whole = read({"axis": {"anchor": ["default", "Assistant"]}})
    assert whole.axis_features()[0] == "<out>/features/<cell>/assistant.parquet" == whole.response_files("default")[0]
    typed = read(
        {"axis": {"anchor": ["asistant"]}, "drift": {"analyses": {"default": {}, "mine": {"anchor": ["sage"]}}}}
    )
    for analysis in (None, "default"):
        with pytest.raises(UserError, match=r"^config, axis.anchor: 'asistant' .* did you mean 'assistant'\?$"):
            typed.check_anchor(analysis)
    with pytest.raises(UserError, match=r"^config, drift.analyses.mine.anchor: 'sage' .* or name another anchor$"):
        typed.check_anchor("mine")


def test_the_nearest_name_in_any_case() -> None:
    assert did_you_mean("Pirat", ["pirate", "ghost"]) == "; did you mean 'pirate'?"
    assert did_you_mean("xyz", ["pirate", "ghost"]) == ""
