"""Drift runs as the original's drift page reads them: its fields, its places, and nothing that it cannot draw."""

from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from personascope.explorer.published import publish_runs, runs_manifest
from personascope.formats.files import read_json, write_json
from tests.helpers.benchmark_cases import ONSET, Benchmark
from tests.helpers.drift_identities import check_summary, check_transition

ORIGINAL = Path(__file__).parents[3] / "shared/data/interpret-personas/run_coding"
RUN = {"id", "label", "conversation_name", "ui_bundle_url", "conversation_url", "summary_url"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, of which one drifts, one is sensitive by its own file, and one has a turn without tokens."""
    folder = tmp_path_factory.mktemp("runs")
    benchmark = Benchmark(folder, references=39)
    benchmark.add_labeled("calm", {"title": "A quiet talk"})
    benchmark.add_labeled("gone", {"title": "A quiet talk", "sensitive": True}, away_from=ONSET)
    benchmark.add_labeled("leaves", {"title": "Toward the mask"}, away_from=ONSET)
    bundle = folder / "default" / "calm" / "ui_bundle.json"
    content = read_json(bundle)
    content["q1"]["turn_scores"].append({"assistant_turn": 8, "score": None})
    content["run_meta"]["sae_id"] = None
    write_json(bundle, content)
    return folder


def published(made: Path, to: Path, **options: Any) -> dict[str, Any]:
    summaries = sorted((made / "default").glob("*/summary.json"))
    publish_runs(summaries, to / "runs_manifest.json", sae="m_width_8", **options)
    return read_json(to / "runs_manifest.json")


def test_the_manifest_names_files_that_are_there(made: Path, tmp_path: Path) -> None:
    manifest = published(made, tmp_path)
    assert {run["id"] for run in manifest["runs"]} == {"calm", "gone", "leaves"}
    for run in manifest["runs"]:
        assert set(run) - {"sensitive"} == RUN and run["label"] == f"default/{run['id']}"
        for name in ("ui_bundle", "conversation", "summary"):
            # The page puts the folder of the manifest before `/runs/`.
            assert run[f"{name}_url"].startswith("/runs/") and (tmp_path / run[f"{name}_url"][1:]).is_file()


def test_what_drifts_comes_first_but_not_what_is_sensitive(made: Path, tmp_path: Path) -> None:
    manifest = published(made, tmp_path)
    order = [run["id"] for run in manifest["runs"]]
    assert order[-1] == "calm" and manifest["default_run_id"] == "leaves"
    assert [run["id"] for run in manifest["runs"] if run.get("sensitive")] == ["gone"]
    named = published(made, tmp_path, sensitive=["leaves"])
    assert {run["id"] for run in named["runs"] if run.get("sensitive")} == {"gone", "leaves"}
    assert named["default_run_id"] == "calm"


def test_conversations_of_one_title_are_told_apart(made: Path, tmp_path: Path) -> None:
    names = {run["id"]: run["conversation_name"] for run in published(made, tmp_path)["runs"]}
    assert names == {"calm": "A quiet talk (calm)", "gone": "A quiet talk (gone)", "leaves": "Toward the mask"}


def numbers_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers_of(item)]
    return [number for item in value for number in numbers_of(item)] if isinstance(value, list) else [value]


def test_a_run_has_nothing_that_the_page_cannot_draw(made: Path, tmp_path: Path) -> None:
    published(made, tmp_path)
    for name in ("calm", "leaves"):
        folder, before = tmp_path / "runs" / name, made / "default" / name
        bundle, summary = read_json(folder / "ui_bundle.json"), read_json(folder / "summary.json")
        assert [row["assistant_turn"] for row in bundle["q1"]["turn_scores"]] == list(range(8))
        assert None not in numbers_of([bundle["run_meta"], bundle["q1"], bundle["q2"]])
        for step in bundle["q2"]["transitions"]:
            check_transition(step, bundle["q2"]["top_features_per_direction"], plain_projection=True)
        assert bundle["q3"] == read_json(before / "ui_bundle.json")["q3"]
        assert read_json(folder / "conversation.json") == {"conversation": read_json(before / "conversation.json")}
        assert all((folder / file).is_file() for file in summary["files"].values())
    assert read_json(tmp_path / "runs" / "calm" / "ui_bundle.json")["run_meta"]["sae_id"] == "m_width_8"
    check_summary(summary, bundle)


def fields(value: Any) -> set[str]:
    """Names of all fields, `[]` for what is in a list."""
    if isinstance(value, dict):
        return {f"{name}{rest}" for name, item in value.items() for rest in {"", *(f".{sub}" for sub in fields(item))}}
    if isinstance(value, list):
        return {f"[].{sub}" for item in value for sub in fields(item)}
    return set()


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the published drift run is not on this machine")
def test_every_field_of_a_run_of_the_original_is_in_ours(made: Path, tmp_path: Path) -> None:
    published(made, tmp_path)
    for file in ("conversation.json", "summary.json", "ui_bundle.json"):
        missing = fields(read_json(ORIGINAL / file)) - fields(read_json(tmp_path / "runs" / "leaves" / file))
        assert not missing, file


def test_a_run_without_a_result_is_not_in_the_manifest(made: Path) -> None:
    good = {"conversation": "calm", "analysis": "default"}
    good["content"] = read_json(made / "default" / "calm" / "summary.json")
    overview = dict.fromkeys(good["content"]["overview"]) | {"flags": [], "n_turns": 0, "n_tokens": 0, "metadata": {}}
    failed = {"status": "failed", "error": "no token", "conversation_name": "Empty", "run_name": "default/empty"}
    bad = {"conversation": "empty", "analysis": "default", "content": failed | {"overview": overview}}
    assert [run["id"] for run in runs_manifest([good, bad])["runs"]] == ["calm"]
    assert runs_manifest([bad]) == {"default_run_id": None, "runs": []} == runs_manifest([])


def test_a_damaged_run_is_named(made: Path, tmp_path: Path) -> None:
    for file in ("conversation.json", "summary.json"):
        write_json(tmp_path / "odd" / file, read_json(made / "default" / "calm" / file))
    write_json(tmp_path / "odd" / "ui_bundle.json", {"version": 1})
    with pytest.raises(UserError, match="odd: not the files of a drift run"):
        publish_runs([tmp_path / "odd" / "summary.json"], tmp_path / "m" / "runs_manifest.json", sae="s")
    assert not (tmp_path / "m" / "runs_manifest.json").exists()
