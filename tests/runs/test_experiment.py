"""The experiment that a configuration describes: defaults, names, files, what jobs ask for."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from personascope.directions.options import AxisOptions
from personascope.drift.options import DriftOptions
from personascope.errors import UserError
from personascope.runs.config import check_files, check_folder, checked_config, sizes
from tests.helpers.experiments import CONFIG, SAE, SCHEMA, merged, read, write


def test_defaults_are_filled_in_and_the_given_configuration_is_left_alone(folder: Path) -> None:
    given = merged(CONFIG, {"drift": {"analyses": {"mine": {"alpha": 0.1}}}})
    before = json.dumps(given)
    config = checked_config(given, SCHEMA)
    assert json.dumps(given) == before
    assert config["experiment"] == "main" and config["generation"]["top_p"] == 0.9
    assert config["drift"]["analyses"] == {"mine": config["drift"]["analyses"]["mine"]}
    assert config["drift"]["analyses"]["mine"]["score_method"] == "projection"


def test_the_template_is_a_parameter_of_every_rule_with_the_model(folder: Path) -> None:
    """YAML reads a day without quotes as a date."""
    given = {"date": date(2025, 3, 9), "variables": {"enable_thinking": False}}
    expected = {"date": "2025-03-09", "name": "default", "variables": {"enable_thinking": False}}
    experiment = read({"model": {"template": given}, "judges": {"own": {"model": "org/judge"}, "same": {}}})
    for params in (experiment.model_params, experiment.engine_params, experiment.activation_params):
        assert params["model"]["template"] == expected
    assert experiment.judge_params("same")["model"]["template"] == expected
    assert experiment.judge_params("own")["model"]["template"] == {"date": "2025-03-09"}


def test_an_overlay_takes_an_analysis_back_with_null(folder: Path) -> None:
    base = {"drift": {"analyses": {"default": {}, "pc1": {"axis_method": "pc1"}}}}
    assert read(base).analyses == ["default", "pc1"]
    assert read(base, {"drift": {"analyses": {"default": None}}}).analyses == ["pc1"]


def test_an_analysis_inherits_the_axis_block_and_overrides_it(folder: Path) -> None:
    axis = {"axis": {"transform": "raw", "other_group": "roleplay_subset", "roleplay_subset": ["pirate"]}}
    found = read(axis, {"drift": {"analyses": {"default": {}, "mine": {"transform": "log1p"}}}})
    assert [found.analysis_options(name)["transform"] for name in ("default", "mine")] == ["raw", "log1p"]
    options = DriftOptions.of(**found.analysis_options("mine"))
    assert options.axis == AxisOptions(other_group="roleplay_subset", roleplay_subset=("pirate",))


def test_what_is_only_displayed_is_no_option_of_the_reference(folder: Path) -> None:
    def reference(**options: Any) -> dict[str, Any]:
        return read({"drift": {"analyses": {"mine": options}}}).reference_options("mine")

    plain = reference()
    assert reference(top_k_roles=9, token_heat_percentiles=[1, 99], transition_pick="manual", manual_turn=2) == plain
    assert reference(alpha=0.1, baseline_turns=2) == plain and reference(pooling="max") != plain
    null = read({"drift": {"analyses": {"mine": {"top_k_roles": 9}}}}).null_options("mine")
    assert null == read({"drift": {"analyses": {"mine": {}}}}).null_options("mine")
    assert null != read({"drift": {"analyses": {"mine": {"alpha": 0.1}}}}).null_options("mine")


def test_experiments_have_folders_of_their_own_and_models_are_shared(folder: Path) -> None:
    found = read({"experiment": "study.2"})
    variables = found.path_variables
    assert (variables["out"], variables["log"]) == ("<results>/study.2", "<logs>/study.2")
    assert variables["bench"] == "<benchmarks>/study.2"
    outputs = [*found.responses, *found.features, *found.role_matrix, *found.axis, *found.calibrations, *found.summary]
    assert all(path.startswith("<out>/") for path in outputs)


@pytest.mark.parametrize(
    ("sae", "name"),
    [
        ({"path": "resources/saes/tiny_layer_1"}, "layer_1"),
        ({"path": "elsewhere/other"}, "other"),
        ({"path": None, "release": "scope-pt", "id": "layer_12/width_16k"}, "scope-pt_layer_12_width_16k"),
        ({"path": None, "release": "scope-it", "id": "layer_12/width_16k"}, "scope-it_layer_12_width_16k"),
        ({"path": None, "release": "scope-it", "id": "layer_12/width_16k", "name": "mine"}, "mine"),
    ],
)
def test_two_saes_of_one_id_have_two_names(folder: Path, sae: dict[str, Any], name: str) -> None:
    assert read({"sae": sae}).sae == name


def test_an_sae_that_another_experiment_trained_is_used_as_it_is(folder: Path) -> None:
    assert not read({"experiment": "first"}).trained_elsewhere, "nobody has yet"
    write(f"{SAE}/card.json", '{"experiment": "first"}')
    assert not read({"experiment": "first"}).trained_elsewhere
    assert read({"experiment": "second"}).trained_elsewhere
    production = {"path": None, "release": "scope", "id": "layer_1"}
    assert not read({"sae": production}).trained_elsewhere


def test_files_of_the_stages(folder: Path) -> None:
    talks = {"conversations": ["talks"], "simulations": {"samples": 2}}
    found = read({"drift": talks | {"tables": ["default"]}, "extraction": {"residual_layers": [1]}})
    assert found.roles == ["assistant", "default", "pirate"] and found.prompts == 4
    assert list(found.conversations) == ["one", "two", "plain-0", "plain-1"]
    assert found.conversations["plain-1"] == "<out>/simulations/<model>/plain-1.json"
    assert found.responses[2] == "<out>/responses/general/<model>/pirate.jsonl" and len(found.features) == 6
    assert [path.split("/")[3] for path in found.role_matrix] == ["mean", "max", "mean_of_max", "residual"]
    assert len(found.tokens) == len(found.drift) == 4 and len(found.drift_extras) == 8
    findings = "<out>/summary/<cell>/findings.html"
    assert read().summary == [findings] and found.summary[1:] == [findings]


def test_conversations_are_read_where_the_rules_are_and_the_bad_ones_have_no_figures(folder: Path) -> None:
    talk = '[{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}]'
    write("talks/My chat.json", talk)
    write("talks/broken.json", "[")
    write("talks/many.jsonl", f'{talk}\n{{"id": "x7", "messages": {talk}}}\n[]\n')
    write("talks/notes.txt", "")
    drift = {"conversations": ["talks"], "tables": [], "figures": ["default"], "linear_split": 5}
    found = read({"drift": drift, "extraction": {"residual_layers": [1]}})
    assert list(found.conversations) == ["My-chat", "broken", "many-1", "x7", "many-3", "one", "two"]
    assert found.places == {
        "many-1": {"line": 1, "title": "many#1"},
        "x7": {"line": 2, "title": "x7"},
        "many-3": {"line": 3, "title": "many#3"},
    }
    assert (
        list(found.unread) == ["broken", "many-3"] and "line 3: the conversation is an empty" in found.unread["many-3"]
    )
    assert len(found.drift) == 7, "their runs say why"
    drawn = [path.split("/")[-2] for path in found.drift_extras]
    assert drawn == ["My-chat", "many-1", "x7", "one", "two"]
    assert [Path(path).stem for path in found.linear_split] == drawn
    passed, lost = found.warnings()
    assert passed.startswith("config, drift.conversations: talks: passed over notes.txt;")
    assert lost.startswith("config, drift.conversations: 2 of 7 conversations can't be read: broken: talks/broken")
    assert found.settings("out")["unread"] == found.unread
    monitored = {"monitor": {"conversations": ["My chat", "broken", "x7"], "directions": ["axis"]}}
    assert read({"drift": drift, "extraction": {"residual_layers": [1]}}, monitored).monitored == ["My-chat", "x7"]


def test_a_path_that_snakemake_would_fill_in_is_refused(folder: Path) -> None:
    for name in ("a <b>", "a {b}"):
        write(f"odd/{name}.json", '[{"role": "assistant", "content": "B."}]')
        with pytest.raises(UserError, match=r"odd/a .*\.json: rename it; Snakemake reads"):
            read({"drift": {"conversations": ["odd"]}})
        Path(f"odd/{name}.json").unlink()


def test_references_are_files_and_simulations_and_a_number_is_spread_over_them(folder: Path) -> None:
    drift = {"references": {"conversations": ["talks"], "samples": 2}}
    found = read({"drift": drift})
    assert list(found.references) == ["a-0", "a-1", "b-0", "b-1", "one", "two"] and found.conversations == {}
    assert (
        found.references["b-1"] == "<out>/references/<model>/b-1.json" and found.references["one"] == "talks/one.json"
    )
    assert len(found.reference_tokens) == 6
    few = read({"drift": {"references": drift["references"] | {"select": 3}}})
    assert list(few.references) == ["a-0", "b-0", "one"]
    assert found.calibrations == [f"<out>/{stage}/<cell>/default.npz" for stage in ("reference", "null")]


def test_anchors_that_are_not_selected_are_warned_about(folder: Path) -> None:
    assert read().warnings() == []
    for one in (1, [0]):
        (warning,) = read({"questions": {"select": one}}).warnings()
        assert "questions.select" in warning and "too few for an axis" in warning
    (warning,) = read({"axis": {"anchor": ["Assistant", "helper"]}}).warnings()
    assert "axis.anchor: 'helper'" in warning
    (warning,) = read({"axis": {"roleplay_subset": ["Pirate", "pirat"]}}).warnings()
    assert "axis.roleplay_subset: 'pirat'" in warning and warning.endswith("left out; did you mean 'pirate'?")


def test_the_configuration_is_looked_for_in_the_workflow_s_folder(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=rf"^no config/config.yaml in {folder}, .* \(cd /their/workflow\)"):
        check_folder("/their/workflow", [])
    check_folder("/their/workflow", [Path("mine.yaml")])
    assert "run in the workflow's folder (cd /their/workflow)" in caplog.text
    caplog.clear()
    write("config/config.yaml", "")
    check_folder("/their/workflow", [])
    assert not caplog.text


def test_an_sae_of_another_model_is_warned_about_and_noted(folder: Path) -> None:
    write(f"{SAE}/cfg.json", json.dumps({"d_sae": 8, "metadata": {"model_name": "gemma-2-2b"}}))
    (note,) = read().notes
    assert note.startswith("config, sae: the SAE was trained on gemma-2-2b, the model is org/tiny")
    assert read().warnings() == [note]
    assert read({"model": {"id": "google/gemma-2-2b"}}).warnings() == []
    write(f"{SAE}/cfg.json", json.dumps({"d_sae": 8, "normalize_activations": "expected_average_only_in"}))
    with pytest.raises(UserError, match=f"config, sae.path: {SAE}: normalize_activations is expected_average_only_in"):
        read()


def test_the_user_s_prediction_is_a_table_an_analysis_where_it_is_asked_for(folder: Path) -> None:
    assert read({}).user_prediction == []
    talks = {"conversations": ["talks"], "references": {"folder": "resources/simulations", "samples": 2}}
    named = {"default": {}, "other": {"transform": "raw"}}
    asked = read({"drift": talks | {"analyses": named, "user_prediction": ["other"]}})
    assert asked.user_prediction == ["<out>/user_prediction/<cell>/other.csv"]
    assert len(read({"drift": talks | {"analyses": named, "user_prediction": "all"}}).user_prediction) == 2
    names = ["one", "two", "plain-0", "plain-1"]
    assert asked.user_means == [f"<out>/tokens/<model>_<sae>/{name}.user_means.npz" for name in names]
    assert asked.tokens + asked.reference_tokens == [f"<out>/tokens/<model>_<sae>/{name}.parquet" for name in names]
    assert asked.user_prediction_mb > asked.drift_mb


def test_sizes_decide_no_result_and_params_hold_no_size(folder: Path) -> None:
    other = {"store": "elsewhere", "model": {"device": "cpu"}, "extraction": {"batch_tokens": 9, "chunk_tokens": 9}}
    other["generation"] = {"backend_options": {"batch_size": 2}}
    plain, moved = read(), read(other)
    assert sizes(plain.config) != sizes(moved.config) and sizes(moved.config)["store"] == "elsewhere"
    for params in ("engine_params", "activation_params"):
        assert getattr(plain, params) == getattr(moved, params)
    quantized = read({"generation": {"backend_options": {"engine_options": {"quantization": "fp8"}}}})
    assert quantized.engine_params != plain.engine_params


def test_a_linear_split_is_a_table_a_conversation_where_it_is_asked_for(folder: Path) -> None:
    assert read({}).linear_split == []
    asked = read({"extraction": {"residual_layers": [15]}, "drift": {"linear_split": 5}})
    assert asked.linear_split == [f"<out>/linear_split/<cell>/{name}.csv" for name in asked.conversations]
    production = {"path": None, "release": "scope", "id": "layer_40_width_65k_l0_medium"}
    assert read({"sae": production}).decoder_mb == pytest.approx(2000 + 16 * 65536 * 8192 / 1e6, abs=1)


def test_a_causal_test_is_a_verdict_that_the_drift_run_repeats(folder: Path) -> None:
    assert read().causal == [] and read().causal_test("default", "one") == []
    layers, causal = {"extraction": {"residual_layers": [15]}}, {"analyses": ["default"], "conversations": ["two"]}
    asked = read(layers, {"drift": {"conversations": ["talks"], "causal": causal}})
    verdict = "<out>/causal/<cell>/default/two.json"
    assert asked.causal == [verdict, "<out>/causal/<cell>/default/two.png"]
    assert asked.causal_test("default", "two") == [verdict] and asked.causal_test("default", "one") == []
    assert asked.causal_params["top"] == 20 and asked.causal_params["max_tokens"] == 64
    assert asked.causal_judged("default", "two") == {}
    assistant = {"instruction": [{"pos": "Help."}, {"pos": "Assist."}], "eval_prompt": "{question} {answer}"}
    write("resources/roles/assistant.json", json.dumps(assistant))
    judged = {"judges": {"own": {}}, "drift": {"conversations": ["talks"], "causal": causal | {"judge": "own"}}}
    effects = "<out>/judgements/own/causal/<cell>/default/two.json"
    assert read(layers, judged).causal == [*asked.causal, effects]
    assert read(layers, judged).causal_rubric("default") == "resources/roles/assistant.json"
    many = read(layers, {"drift": {"conversations": ["talks"], "causal": causal | {"seeds": 2000}}})
    assert many.causal_minutes > asked.causal_minutes


def test_drift_jobs_ask_for_what_references_and_role_spaces_take(folder: Path) -> None:
    production = {"path": None, "release": "scope", "id": "layer_40_width_65k_l0_medium"}
    one = read({"sae": production})
    assert one.d_sae == 65536
    reference, halves, roles = 65536 * 1000 * 4, 65536 * 40 * 4, 4 * 65536 * 3 * 4
    assert one.drift_mb == pytest.approx(500 + (reference + halves + roles) / 1e6, abs=1)
    analyses = {"default": {}, "pc1": {"axis_method": "pc1"}, "against": {"score_method": "cos_assistant"}}
    three = read({"sae": production, "drift": {"analyses": analyses}})
    assert three.drift_mb == pytest.approx(500 + (4 * reference + 3 * halves + 3 * roles) / 1e6, abs=1)
    assert read({"sae": production, "drift": {"uncertainty": {"draws": 0}}}).drift_mb < 510


def test_widths_come_from_the_files_where_they_are_there(folder: Path) -> None:
    assert (read().d_sae, read().d_model) == (SCHEMA["properties"]["train_sae"]["properties"]["width"]["default"], 8192)
    write(f"{SAE}/cfg.json", '{"d_sae": 77}')
    write("model/config.json", '{"hidden_size": 16}')
    found = read({"model": {"id": "model"}})
    assert (found.d_sae, found.d_model, found.model_files) == (77, 16, ["model/config.json"])


def test_figures_of_the_axis_are_named_by_their_spaces_and_say_what_is_known_of_the_sae(folder: Path) -> None:
    files = [path.split("/")[-1] for path in read({"extraction": {"residual_layers": [3, 15]}}).axis]
    spaces = ("sae", "residual_layer_3", "residual_layer_15")
    assert [file for file in files if file.startswith("role_projections")] == [
        *(f"role_projections_{space}.png" for space in spaces),
        "role_projections.csv",
    ]
    assert {"axis_by_layer.png", "pca_spectrum.png", "role_similarity.png", "agreement.csv"} < set(files)
    known = read({"sae": {"path": None, "release": "scope", "id": "layer_40_width_65k"}})
    assert "layer_40_width_65k (65,536 features, log1p), general questions" in known.subtitle
    guessed = read({"sae": {"path": None, "release": "scope", "id": "blocks.8"}})
    assert guessed.known_d_sae is None and "features" not in guessed.subtitle


def test_minutes_and_memory_grow_with_the_model(folder: Path) -> None:
    small, large = read({"model": {"billion_parameters": 1}}), read({"model": {"billion_parameters": 27}})
    assert large.model_mb > 20 * (small.model_mb - 4000) and large.generate_minutes > small.generate_minutes
    assert large.extract_minutes < large.generate_minutes
    assert read({"model": {"billion_parameters": 27, "device": "cuda", "gpus": 2}}).gpus == 2 and small.gpus == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"drift:\n  too_long: truncate\nmodel: {}\ndrift:\n  tables: []\n", ", lines 1 and 4: the key 'drift' stands"),
        (b"model:\n  id: a\n  id: b\n", ", lines 2 and 3: the key 'id'"),
        (b'{"model": {}, "model": {}}', "the key 'model' twice"),
        (b"model:\n\tid: x\n", "line 2, column 1"),
        (b"model: caf\xe9\n", "not UTF-8"),
        (b"# nothing\n", "keys at its top level"),
        (b"- model\n", "keys at its top level"),
    ],
)
def test_a_file_that_snakemake_misreads_or_does_not_name_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        check_files([file])
    assert str(error.value).startswith(str(file)) and said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", ['{\n\t"model": {}\n}', "\ufeffa: &x {b: 1}\nc: {<<: *x, b: 2}\nd: {<<: *x}\n", "a: 1\r\nb: 2\r\n"]
)
def test_files_that_snakemake_reads_are_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.yaml").write_text(content, encoding="utf-8", newline="")
    check_files([tmp_path / "mine.yaml", tmp_path / "given-through-a-pipe"])
