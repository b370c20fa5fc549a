"""What stands in two places by necessity, in the schema and in the code, must be one thing."""

import re
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from personascope.directions import options as axis_options
from personascope.directions.assistant_axis import AXIS_TABLES
from personascope.directions.axis import AXIS_METHODS, TRANSFORMS
from personascope.directions.figures.plot import AXIS_FIGURES
from personascope.directions.options import AxisOptions
from personascope.directions.spaces import FIGURES, SPACE_FIGURES
from personascope.drift import options as drift_options
from personascope.drift.analysis import analyze
from personascope.drift.notebook import notebook_tables
from personascope.drift.options import DisplayOptions, DriftOptions, ScoringOptions, TestOptions
from personascope.drift.pages.figures import DRIFT_FIGURES
from personascope.extraction.train_sae import TrainOptions
from tests.helpers.drift_cases import random_roles, random_tokens, to_activations
from tests.helpers.experiments import ROOT, SCHEMA


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
    said = [{"role": "user", "content": "So?"}, {"role": "assistant", "content": "So."}] * 2
    assert set(axis_options.TABLES) == set(AXIS_TABLES) and {*FIGURES, *SPACE_FIGURES} == set(AXIS_FIGURES)
    dense, turn = random_tokens([2, 2], 9)
    result = analyze(to_activations(dense, np.asarray(turn), 2), matrix, names, DriftOptions.of(anchor=(names[0],)))
    assert set(drift_options.TABLES) == set(notebook_tables(result, said))
    assert set(drift_options.FIGURES) == set(DRIFT_FIGURES)


def test_common_smk_only_asks() -> None:
    lines = (ROOT / "workflow/rules/common.smk").read_text().splitlines()
    assert len(lines) <= 80
    rules = "\n".join(file.read_text() for file in sorted((ROOT / "workflow/rules").glob("*.smk")))
    assert not re.search(r"\{(model|sae)\}", rules), "paths name them by path variables"
