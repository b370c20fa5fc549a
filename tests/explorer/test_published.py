"""Drift runs as the original's drift page reads them: its fields, its places, and nothing that it cannot draw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personascope.drift.bundle import conversation_hash
from personascope.errors import UserError
from personascope.explorer.published import publish_runs, runs_manifest
from personascope.formats.files import read_json, write_json
from tests.helpers.benchmark_cases import ONSET, Benchmark
from tests.helpers.drift_identities import check_summary, check_transition
from tests.helpers.original_page import CONVERSATION, MANIFEST, NULL, UI_BUNDLE, kinds_in, unlike

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


def test_a_run_has_nothing_that_the_page_cannot_draw(made: Path, tmp_path: Path) -> None:
    assert not unlike(published(made, tmp_path), MANIFEST)
    for name in ("calm", "leaves"):
        folder, before = tmp_path / "runs" / name, made / "default" / name
        bundle, summary = read_json(folder / "ui_bundle.json"), read_json(folder / "summary.json")
        assert [row["assistant_turn"] for row in bundle["q1"]["turn_scores"]] == list(range(8))
        assert not unlike(bundle, UI_BUNDLE) and not any(NULL in kinds for kinds in kinds_in(bundle).values())
        for step in bundle["q2"]["transitions"]:
            check_transition(step, bundle["q2"]["top_features_per_direction"], plain_projection=True)
        assert bundle["q3"] == read_json(before / "ui_bundle.json")["q3"]  # its tokens are plain text already
        assert read_json(folder / "conversation.json") == {"conversation": read_json(before / "conversation.json")}
        assert not unlike(read_json(folder / "conversation.json"), CONVERSATION)
        assert all((folder / file).is_file() for file in summary["files"].values())
    assert read_json(tmp_path / "runs" / "calm" / "ui_bundle.json")["run_meta"]["sae_id"] == "m_width_8"
    check_summary(summary, bundle)


def changed(made: Path, to: Path, file: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """The run `calm` with one of its files changed, in a folder of its own; its summary."""
    for name in ("ui_bundle.json", "conversation.json", "summary.json"):
        write_json(to / "calm" / name, read_json(made / "default" / "calm" / name))
    content = read_json(to / "calm" / file)
    change(content)
    write_json(to / "calm" / file, content)
    return to / "calm" / "summary.json"


def test_tokens_are_published_as_text_whole_characters_first(made: Path, tmp_path: Path) -> None:
    spelled = ["ĠÃ¼ber", "ĊĊ", "ðŁ", "Į", "Ĭ", "Ġsea"]

    def respell(bundle: dict[str, Any]) -> None:
        for turn in bundle["q3"]["token_localization"]:
            turn["tokens"] = [*spelled, *turn["tokens"][len(spelled) :]]

    summary = changed(made, tmp_path / "from", "ui_bundle.json", respell)
    publish_runs([summary], tmp_path / "to" / "runs_manifest.json", sae="s")
    before = read_json(summary.parent / "ui_bundle.json")["q3"]["token_localization"]
    turns = read_json(tmp_path / "to" / "runs" / "calm" / "ui_bundle.json")["q3"]["token_localization"]
    for old, turn in zip(before, turns, strict=True):
        assert turn["tokens"][:6] == [" über", "\n\n", "🌊", "", "", " sea"] and set(turn["tokens"][6:]) == {"x"}
        assert turn | {"tokens": old["tokens"]} == old and len(turn["tokens"]) == len(turn["u_k"])


def test_messages_that_did_not_fit_are_not_published(made: Path, tmp_path: Path) -> None:
    """The page takes the n-th message of the assistant for turn n."""
    messages = read_json(made / "default" / "calm" / "conversation.json")
    system, more = (
        {"role": "system", "content": "s"},
        [{"role": role, "content": "y"} for role in ("user", "assistant")],
    )

    for first in ([], [system]):
        summary = changed(made, tmp_path / "from", "summary.json", lambda content: content.update(dropped_messages=2))
        write_json(summary.parent / "conversation.json", [*first, *more, *messages])
        publish_runs([summary], tmp_path / "to" / "runs_manifest.json", sae="s")
        folder, kept = tmp_path / "to" / "runs" / "calm", [*first, *messages]
        assert read_json(folder / "conversation.json") == {"conversation": kept}
        assert read_json(folder / "ui_bundle.json")["run_meta"]["conversation_hash"] == conversation_hash(kept)


def test_a_summary_says_how_many_messages_did_not_fit(made: Path) -> None:
    assert read_json(made / "default" / "calm" / "summary.json")["dropped_messages"] == 0


@pytest.mark.parametrize("title", ["", " \n", 7, None, ["a"]])
def test_a_title_that_shows_nothing_is_no_name(tmp_path: Path, title: Any) -> None:
    """The page leaves out a run whose name is blank or no text."""
    benchmark = Benchmark(tmp_path, references=39)
    benchmark.add_labeled("calm", {"title": title})
    assert published(tmp_path, tmp_path / "to")["runs"][0]["conversation_name"] == "calm"


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the published drift run is not on this machine")
def test_every_field_of_a_run_of_the_original_is_in_ours_and_of_its_kind(made: Path, tmp_path: Path) -> None:
    published(made, tmp_path)
    for file, read in (("conversation.json", CONVERSATION), ("summary.json", {}), ("ui_bundle.json", UI_BUNDLE)):
        original = read_json(ORIGINAL / file)
        assert not unlike(original, read), f"the facts are not those of {file}"
        # The page does not read the summary; what an SAE or a constant metric does not have is null there.
        more = {NULL} if file == "summary.json" else set()
        kinds = {place: known | more for place, known in kinds_in(original).items()}
        assert not unlike(read_json(tmp_path / "runs" / "leaves" / file), kinds), file


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
