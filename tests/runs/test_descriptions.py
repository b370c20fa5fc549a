"""What an experiment asks for where features are described."""

import re
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from tests.helpers.experiments import SAE, read, write

LLM = {"model": "m", "backend_options": {"base_url": "http://localhost:1/v1"}}


def asked(**block: Any) -> dict[str, Any]:
    return {"descriptions": block}


def test_nothing_is_asked_for_by_default(folder: Path) -> None:
    experiment = read()
    assert (experiment.descriptions, experiment.described, experiment.context_outputs) == ([], [], {})
    # `extract` keeps its parameters, so that nothing is extracted again.
    assert experiment.context_params == {}


def test_a_cache_alone_names_features_without_contexts(folder: Path) -> None:
    experiment = read({"sae": {"descriptions": "cache.json"}})
    assert experiment.descriptions == ["cache.json"]
    assert experiment.described == []


def test_contexts_come_from_every_role(folder: Path) -> None:
    experiment = read(asked(contexts=8))
    assert len(experiment.role_contexts("activity")) == len(experiment.roles)
    assert experiment.descriptions == ["<out>/descriptions/<cell>/descriptions.json"]
    assert [Path(file).name for file in experiment.described] == [
        "features.parquet",
        "contexts.parquet",
        "descriptions.json",
    ]


def test_the_cache_is_believed_first(folder: Path) -> None:
    blocks = asked(contexts=8, neuronpedia={"id": "gemma-2-2b/12-res"}, llm=LLM)
    experiment = read({"sae": {"descriptions": "cache.json"}}, blocks)
    assert list(experiment.description_sources) == ["cache", "neuronpedia", "llm"]
    assert experiment.feature_link == "https://neuronpedia.org/gemma-2-2b/12-res/"
    links_only = read(asked(contexts=8, neuronpedia={"id": "gemma-2-2b/12-res", "features": 0}))
    assert links_only.description_sources == {}
    assert links_only.feature_link


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"neuronpedia": {"id": "a/b"}}, "descriptions.neuronpedia: it needs descriptions.contexts"),
        ({"llm": LLM}, "descriptions.llm: it needs descriptions.contexts"),
        ({"contexts": 8, "llm": {"model": "m"}}, "descriptions.llm.backend_options.base_url"),
        ({"contexts": 8, "neuronpedia": {"id": "../../x"}}, "descriptions.neuronpedia.id"),
        ({"contexts": -1}, "descriptions.contexts"),
        ({"context": 8}, "no key 'context'; did you mean 'contexts'"),
    ],
)
def test_a_wrong_key_is_named(folder: Path, block: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said.replace(".", r"\.").replace("(", r"\(")):
        read({"descriptions": block})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "config, sae.descriptions: there is no file cache.json"),
        ("{", "cache.json"),
        ('{"a": "x"}', "cache.json, feature a: 'a' is no feature"),
        ('{"64": "x"}', "cache.json: feature 64, but the SAE has 64; is it the cache of this SAE?"),
        ('{"63": "x"}', ""),
    ],
)
def test_a_cache_is_read_before_anything_is_computed(folder: Path, text: str | None, said: str) -> None:
    write(f"{SAE}/cfg.json", '{"d_sae": 64}')
    if text is not None:
        write("cache.json", text)
    experiment = read({"sae": {"descriptions": "cache.json"}})
    if said:
        with pytest.raises(UserError, match=re.escape(said)):
            experiment.check_description_file()
    else:
        experiment.check_description_file()
