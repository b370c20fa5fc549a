"""The experiment that a configuration describes: what is refused and how, defaults, names, files, what jobs ask for."""

import json
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from yaml import safe_load

from personascope.directions import options as axis_options
from personascope.directions.assistant_axis import AXIS_TABLES
from personascope.directions.axis import AXIS_METHODS, TRANSFORMS
from personascope.directions.figures.plot import AXIS_FIGURES
from personascope.directions.options import AxisOptions
from personascope.directions.spaces import FIGURES, SPACE_FIGURES
from personascope.drift import options as drift_options
from personascope.drift.analysis import analyze
from personascope.drift.options import DisplayOptions, DriftOptions, ScoringOptions, TestOptions
from personascope.drift.pages.figures import DRIFT_FIGURES
from personascope.drift.tables import tables
from personascope.errors import UserError
from personascope.extraction.train_sae import TrainOptions
from personascope.runs.config import checked_config, sizes
from personascope.runs.experiment import Experiment, read_experiment
from tests.helpers.drift_cases import random_roles, random_tokens, to_activations

ROOT = Path(__file__).parents[2]
SCHEMA = safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
PIRATE = "resources/roles/pirate.json"
QUESTIONS = "resources/questions.jsonl"
SAE = "resources/saes/tiny_layer_1"
CONFIG: dict[str, Any] = {"model": {"id": "org/tiny"}, "sae": {"path": SAE}}


def merged(config: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """As Snakemake merges overlays: key by key, lists as wholes."""
    both = {
        key: merged(config[key], value)
        for key, value in overlay.items()
        if isinstance(value, dict) and isinstance(config.get(key), dict)
    }
    return config | overlay | both


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three roles, two questions, two conversations and a script."""
    monkeypatch.chdir(tmp_path)
    write(
        PIRATE, json.dumps({"instruction": [{"pos": "Talk like a pirate."}, {"pos": "Ahoy."}], "questions": ["Why?"]})
    )
    write("resources/roles/assistant.json", json.dumps({"instruction": [{"pos": "Help."}, {"pos": "Assist."}]}))
    write("resources/roles/default.json", json.dumps({"instruction": [{"pos": ""}, {"pos": "You are {model_name}."}]}))
    write(QUESTIONS, '{"question": "Who?", "id": 0}\n{"question": "What?", "id": 1}\n')
    for name in ("talks/one.json", "talks/two.json", "resources/simulations/plain.json"):
        write(name, "[]")
    for name in ("resources/references/a.json", "resources/references/b.json"):
        write(name, "[]")
    return tmp_path


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def read(*overlays: dict[str, Any]) -> Experiment:
    config = merged(CONFIG, {"generation": {"variants": [0, 1]}})
    for overlay in overlays:
        config = merged(config, overlay)
    return read_experiment(config, SCHEMA)


def file(name: str, text: str) -> Callable[[], dict[str, Any]]:
    return lambda: write(name, text) or {}


def key(**blocks: Any) -> Callable[[], dict[str, Any]]:
    return lambda: blocks


# What is wrong, and what the one line must say.
WRONG: dict[str, tuple[Callable[[], dict[str, Any]], list[str]]] = {
    "unknown-block": (key(modle={"id": "x"}), ["config, top level", "modle", "config/README.md"]),
    "unknown-key": (key(generation={"temprature": 1}), ["generation", "temprature"]),
    "wrong-type": (key(generation={"max_tokens": "many"}), ["generation.max_tokens", "many"]),
    "out-of-range": (key(generation={"top_p": 1.5}), ["generation.top_p", "1.5"]),
    "experiment-name": (key(experiment="a/b"), ["experiment", "a/b"]),
    "experiment-models": (key(experiment="models"), ["experiment", "'models'", "another name"]),
    "no-role-folder": (key(roles={"folder": "resources/rolls"}), ["resources/rolls"]),
    "role-not-there": (key(roles={"select": ["pirate", "nobody"]}), ["roles.select", "nobody"]),
    "role-empty": (file(PIRATE, "\n"), [PIRATE]),
    "role-malformed": (file(PIRATE, '{"instruction": ['), [PIRATE, "line 1"]),
    "role-without-instructions": (file(PIRATE, '{"questions": ["Why?"]}'), [PIRATE, "instruction"]),
    "role-without-pos": (
        file(PIRATE, '{"instruction": [{"pos": "x"}, {"positive": "y"}]}'),
        [PIRATE, "instruction 1", "pos"],
    ),
    "variant-not-there": (key(generation={"variants": [0, 7]}), ["variants", "7", "assistant"]),
    "no-questions-file": (key(questions={"file": "questions.txt"}), ["questions.txt"]),
    "questions-empty": (file(QUESTIONS, "\n"), [QUESTIONS]),
    "questions-malformed": (file(QUESTIONS, '{"question": "Why?", "id": 0}\n{"question": '), [QUESTIONS, "line 2"]),
    "questions-same-id": (
        file(QUESTIONS, '{"question": "Why?", "id": 3}\n{"question": "How?", "id": 3}\n'),
        [QUESTIONS, "question 2", "id 3"],
    ),
    "too-many-questions": (key(questions={"select": 9999}), ["questions.select", "9999"]),
    "own-questions-missing": (key(generation={"question_mode": "role_specific"}), ["role assistant", "questions"]),
    "sae-both": (key(sae={"path": SAE, "release": "a", "id": "b"}), ["config, sae", "path", "release"]),
    "sae-neither": (key(sae={"path": None}), ["config, sae", "path", "release"]),
    "sae-release-alone": (key(sae={"path": None, "release": "a"}), ["config, sae", "id"]),
    "no-base-url": (key(generation={"backend": "openai"}), ["generation.backend_options.base_url"]),
    "no-base-url-of-chat": (key(generation={"backend": "chat"}), ["generation.backend_options.base_url", "chat"]),
    "too-few-gpus": (
        key(model={"device": "cuda"}, generation={"backend_options": {"tensor_parallel_size": 4}}),
        ["generation.backend_options.tensor_parallel_size", "4 GPUs", "model.gpus is 1"],
    ),
    "drift-unknown-option": (key(drift={"analyses": {"mine": {"poling": "max"}}}), ["drift.analyses.mine", "poling"]),
    "drift-layer-not-kept": (
        key(drift={"analyses": {"mine": {"space": "residual", "layer": 3}}}),
        ["drift.analyses.mine.layer", "3", "extraction.residual_layers"],
    ),
    "drift-manual-without-turn": (
        key(drift={"analyses": {"mine": {"transition_pick": "manual"}}}),
        ["drift.analyses.mine.manual_turn"],
    ),
    "judge-without-url": (key(judges={"api": {"backend": "chat"}}), ["judges.api.backend_options.base_url"]),
    "judge-of-an-endpoint-with-an-opening": (
        key(judges={"api": {"backend": "chat", "backend_options": {"base_url": "http://x/v1"}, "opening": "I say "}}),
        ["judges.api.opening"],
    ),
    "judge-exact-and-sampled": (key(judges={"mine": {"samples": 3}}), ["judges.mine.samples", "transformers"]),
    "judge-not-there": (
        key(judges={"mine": {}}, aggregation={"role_filter": {"judge": "other"}}),
        ["aggregation.role_filter.judge", "'other'", "mine"],
    ),
    "role-without-a-rubric": (
        key(judges={"mine": {}}, aggregation={"role_filter": {"judge": "mine"}}),
        ["resources/roles/assistant.json", "eval_prompt"],
    ),
    "linear-split-without-layers": (
        key(extraction={"residual_layers": []}, drift={"linear_split": 5}),
        ["drift.linear_split", "extraction.residual_layers"],
    ),
    "attribution-share": (key(drift={"analyses": {"mine": {"attribution_share": 0}}}), ["attribution_share", "0"]),
    "drift-percentiles": (
        key(drift={"analyses": {"mine": {"token_heat_percentiles": [95, 5]}}}),
        ["drift.analyses.mine", "token_heat_percentiles", "95 and 5"],
    ),
    "drift-no-analysis-left": (key(drift={"analyses": {"default": None}}), ["drift.analyses"]),
    "drift-analysis-name": (key(drift={"analyses": {"a b": {}}}), ["drift.analyses", "a b"]),
    "drift-figures-of-nothing": (key(drift={"figures": ["nothing"]}), ["drift.figures", "nothing", "default"]),
    "drift-prediction-of-nothing": (
        key(drift={"user_prediction": ["default", "nothing"]}),
        ["drift.user_prediction", "nothing", "default"],
    ),
    "drift-no-folder": (key(drift={"conversations": ["nowhere"]}), ["config, drift", "nowhere"]),
    "drift-file-name": (
        lambda: write("odd/a b; rm -rf x.json", "[]") or {"drift": {"conversations": ["odd"]}},
        ["a b; rm -rf x", "rename"],
    ),
    "drift-reference-is-conversation": (
        key(drift={"conversations": ["talks"], "references": {"conversations": ["talks/one.json"]}}),
        ["one is a conversation and a reference"],
    ),
    "drift-too-many-references": (
        key(drift={"references": {"conversations": ["talks"], "select": 5}}),
        ["drift.references.select", "5", "2 reference conversations"],
    ),
    "drift-no-reference-folder": (
        key(drift={"references": {"folder": "nowhere", "samples": 1}}),
        ["config, drift", "nowhere"],
    ),
    "causal-residual": (
        key(
            extraction={"residual_layers": [15]},
            drift={"analyses": {"res": {"space": "residual", "layer": 15}}, "causal": {"analyses": ["res"]}},
        ),
        ["drift.causal.analyses", "res has no features"],
    ),
    "causal-analysis": (key(drift={"causal": {"analyses": ["nothing"]}}), ["drift.causal.analyses", "nothing"]),
    "causal-conversation": (
        key(drift={"causal": {"analyses": ["default"], "conversations": ["nobody"]}}),
        ["drift.causal.conversations", "nobody"],
    ),
    "causal-layer": (
        key(
            extraction={"residual_layers": [15]},
            drift={"causal": {"analyses": ["default"], "read_layers": [77]}},
        ),
        ["drift.causal.read_layers", "77", "extraction.residual_layers"],
    ),
    "causal-no-layer": (
        key(extraction={"residual_layers": []}, drift={"causal": {"analyses": ["default"]}}),
        ["drift.causal", "extraction.residual_layers"],
    ),
    "anchor-empty": (key(axis={"anchor": []}), ["axis.anchor"]),
    "drift-same-name": (
        lambda: (
            write("talks/plain-0.json", "[]") or {"drift": {"conversations": ["talks"], "simulations": {"samples": 1}}}
        ),
        ["plain-0", "a file and of a simulation"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_line_says_what_is_wrong(folder: Path, case: str) -> None:
    prepare, said = WRONG[case]
    with pytest.raises(UserError) as error:
        read(prepare())
    assert all(word in str(error.value) for word in said) and "\n" not in str(error.value), error.value


def test_defaults_are_filled_in_and_the_given_configuration_is_left_alone(folder: Path) -> None:
    given = merged(CONFIG, {"drift": {"analyses": {"mine": {"alpha": 0.1}}}})
    before = json.dumps(given)
    config = checked_config(given, SCHEMA)
    assert json.dumps(given) == before
    assert config["experiment"] == "main" and config["generation"]["top_p"] == 0.9
    assert config["drift"]["analyses"] == {"mine": config["drift"]["analyses"]["mine"]}
    assert config["drift"]["analyses"]["mine"]["score_method"] == "projection"


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


# ---- what stands in two places by necessity must be one thing --------------------------------------------------------


def schema_defaults(*path: str) -> dict[str, Any]:
    part = SCHEMA
    for name in path:
        part = part["properties"][name]
    part = part.get("additionalProperties") or part
    return {name: value["default"] for name, value in part["properties"].items() if "default" in value}


def dataclass_defaults(*kinds: Any) -> dict[str, Any]:
    values = {field.name: field.default for kind in kinds for field in fields(kind) if field.default is not MISSING}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def test_the_schema_s_defaults_are_those_of_the_dataclasses() -> None:
    axis = dataclass_defaults(AxisOptions)
    every = dataclass_defaults(AxisOptions, ScoringOptions, TestOptions, DisplayOptions)
    in_block = schema_defaults("axis")
    assert in_block == {name: axis[name] for name in in_block}
    analysis = schema_defaults("drift", "analyses")
    assert analysis == {name: value for name, value in every.items() if name not in in_block}, (
        "the others are inherited"
    )
    assert schema_defaults("train_sae") == dataclass_defaults(TrainOptions) | {"layer": 15}


def test_the_schema_s_variants_are_those_that_there_are() -> None:
    block = SCHEMA["properties"]["drift"]["properties"]["analyses"]["additionalProperties"]["properties"]
    assert set(block["transform"]["enum"]) == set(TRANSFORMS) and set(block["axis_method"]["enum"]) == set(AXIS_METHODS)
    assert tuple(block["score_method"]["enum"]) == drift_options.SCORE_METHODS
    for name, part in block.items():
        for value in part.get("enum", []):
            more = {"manual_turn": 1} if value == "manual" else {}
            assert DriftOptions.of(**{name: value}, **more).flat()[name] == value


def test_the_lists_of_tables_and_figures_are_what_is_made() -> None:
    matrix, names = random_roles(4, 9)
    assert set(axis_options.TABLES) == set(AXIS_TABLES) and {*FIGURES, *SPACE_FIGURES} == set(AXIS_FIGURES)
    dense, turn = random_tokens([2, 2], 9)
    result = analyze(to_activations(dense, np.asarray(turn), 2), matrix, names, DriftOptions.of(anchor=(names[0],)))
    assert set(drift_options.TABLES) == set(tables(result)) and set(drift_options.FIGURES) == set(DRIFT_FIGURES)


def test_common_smk_only_asks() -> None:
    lines = (ROOT / "workflow/rules/common.smk").read_text().splitlines()
    assert len(lines) <= 80
    rules = "\n".join(file.read_text() for file in sorted((ROOT / "workflow/rules").glob("*.smk")))
    assert not re.search(r"\{(model|sae)\}", rules), "paths name them by path variables"
