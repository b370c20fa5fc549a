"""What is wrong with a configuration, in one line that names its key or file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from tests.helpers.experiments import PIRATE, QUESTIONS, SAE, read, write


def file(name: str, text: str) -> Callable[[], dict[Any, Any]]:
    return lambda: write(name, text) or {}


def key(**blocks: Any) -> Callable[[], dict[Any, Any]]:
    return lambda: blocks


# What is wrong, and what the one line must say.
WRONG: dict[str, tuple[Callable[[], dict[Any, Any]], list[str]]] = {
    "unknown-block": (key(modle={"id": "x"}), ["config, top level", "modle", "config/README.md"]),
    "unknown-key": (key(generation={"temprature": 1}), ["generation", "temprature"]),
    "near-key": (
        key(generation={"temprature": 1}),
        ["config, generation: no key 'temprature'; did you mean 'temperature'? config/README.md"],
    ),
    "key-of-another-block": (key(top_p=1), ["top level: no key 'top_p'; there is generation.top_p;"]),
    "near-option": (
        key(drift={"analyses": {"mine": {"tranform": "raw"}}}),
        ["config, drift.analyses.mine: no key 'tranform'; did you mean 'transform'?"],
    ),
    "near-transform": (
        key(axis={"transform": "Log1"}),
        ["config, axis.transform: 'Log1' is none of raw, log1p; did you mean 'log1p'?"],
    ),
    "near-all": (key(roles={"select": "al"}), ["roles.select: 'al' is none of all, a list; did you mean 'all'?"]),
    "near-role": (key(roles={"select": ["Pirat"]}), ["resources/roles for Pirat; did you mean 'pirate'?"]),
    "near-analysis": (key(drift={"figures": ["defalt"]}), ["drift.figures: defalt", "did you mean 'default'?"]),
    "near-conversation": (
        key(drift={"conversations": ["talks"], "sensitive": ["ones"]}),
        ["drift.sensitive: ones is no conversation of this experiment; did you mean 'one'?"],
    ),
    "near-judge": (
        key(judges={"mine": {}}, aggregation={"role_filter": {"judge": "mien"}}),
        ["aggregation.role_filter.judge", "did you mean 'mine'?"],
    ),
    "near-direction": (key(decompose=["axes"]), ["config, decompose: no direction 'axes'", "did you mean 'axis'?"]),
    "model-without-organization": (key(model={"id": "gpt2"}), ["config, model.id: gpt2", "openai-community/gpt2"]),
    "key-no-text": (key(drift={"analyses": {1: {}}}), ["config, drift.analyses: the key 1 is not text", "quotes"]),
    "key-true": (lambda: {True: "x"}, ["config, top level: the key True is not text"]),  # `on:` in YAML
    "not-a-number": (key(generation={"temperature": float("nan")}), ["config, generation.temperature: nan"]),
    "whole-number-with-a-dot": (
        key(drift={"simulations": {"samples": 2.0}}),
        ["config, drift.simulations.samples: 2.0 is not a whole number"],
    ),
    "block-null": (key(generation=None), ["config, generation: null (nothing) is not a block of keys"]),
    "block-list": (key(drift=["a"]), ["config, drift: ['a'] is not a block of keys"]),
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
    "template-date": (key(model={"template": {"date": "2024-02-31"}}), ["config, model.template.date", "2024-02-31"]),
    "template-date-in-words": (key(model={"template": {"date": "today"}}), ["model.template.date", "today"]),
    "template-variable": (
        key(model={"template": {"variables": {"tokenize": True}}}),
        ["config, model.template.variables", "tokenize"],
    ),
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
        lambda: write("odd/a b.json", "[]") or write("odd/a;b.json", "[]") or {"drift": {"conversations": ["odd"]}},
        ["odd/a b.json", "odd/a;b.json", "rename"],
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
    "causal-judge": (
        key(judges={"own": {}}, drift={"causal": {"judge": "big"}}),
        ["drift.causal.judge", "'big' is no judge", "own"],
    ),
    "causal-judge-none": (key(drift={"causal": {"judge": "big"}}), ["drift.causal.judge", "`judges`"]),
    "causal-judge-role": (
        key(
            judges={"own": {}},
            axis={"anchor": ["default"]},
            extraction={"residual_layers": [15]},
            drift={"causal": {"analyses": ["default"], "judge": "own"}},
        ),
        ["drift.causal.judge", "the anchor of default is `default` alone"],
    ),
    "causal-judge-rubric": (
        key(
            judges={"own": {}},
            extraction={"residual_layers": [15]},
            drift={"causal": {"analyses": ["default"], "judge": "own"}},
        ),
        ["resources/roles/assistant.json", "eval_prompt"],
    ),
    "monitor-layer": (
        key(
            model={"layers": 30},
            extraction={"residual_layers": [15]},
            drift={"conversations": ["talks"]},
            monitor={"directions": ["axis"], "layers": [99]},
        ),
        ["monitor.layers", "99", "0 to 29"],
    ),
    "monitor-layer-not-kept": (
        key(
            extraction={"residual_layers": [15]},
            drift={"conversations": ["talks"]},
            monitor={"directions": ["role:pirate"], "layers": [15, 7]},
        ),
        ["monitor.layers", "role:pirate is not known at layer 7", "extraction.residual_layers [15]"],
    ),
    "sweep-layer-not-kept": (
        key(
            extraction={"residual_layers": [15]},
            steering={"sweeps": {"s": {"direction": "axis", "coefficients": [1], "layers": [7]}}},
        ),
        ["steering.sweeps.s.layers", "axis is not known at layer 7"],
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
