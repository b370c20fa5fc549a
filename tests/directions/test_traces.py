"""Scale, figure and page of a trace: numbers against formulas of their own, and texts that nobody vouches for."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from personascope.directions.traces.figure import shown_columns, smoothed, trace_figure
from personascope.directions.traces.page import trace_page
from personascope.directions.traces.plot import doubts_of, plot_trace
from personascope.directions.traces.scale import Scale, own_scale, reference_scale, scales_of
from personascope.formats.files import write_json
from personascope.formats.tokens import TokenBlock, token_writer, write_failure
from personascope.formats.traces import Trace, empty_trace, write_trace
from tests.helpers.directions import drawn

HOSTILE = ["</script>", "<img", "src=x>", "\u202eevil", "\x1b[31m"]
COLUMNS = ["axis@0", "trait:calm@0", "axis@1", "trait:calm@1"]


def trace(tokens: list[str] | None = None, n: int = 60) -> Trace:
    """A user's and the assistant's message by turns, 20 tokens each; the first two of each are the template's."""
    random = np.random.default_rng(0)
    tokens = tokens or [f"\u2581word{i}" for i in range(n)]
    n = len(tokens)
    message = np.arange(n) // 20
    surprise = random.exponential(3, n).astype(np.float32)
    surprise[0] = np.nan
    talk = {"name": "talk", "messages": [], "metadata": {}}
    return Trace(
        columns=COLUMNS,
        message_index=message.astype(np.int32),
        roles=["user" if m % 2 == 0 else "assistant" for m in message],
        token_ids=np.arange(n, dtype=np.int32),
        tokens=tokens,
        in_content=np.arange(n) % 20 >= 2,
        surprise=surprise,
        projections=random.normal([1, 2, 3, 4], 2, (n, 4)).astype(np.float32),
        metadata={"model": "models/tiny", "conversation": talk, "dropped_messages": 0, "error": None},
    )


def scales(one: Trace) -> dict[str, Scale]:
    return {column: own_scale(one, column) for column in one.columns}


def tokens_file(path: Path, residuals: np.ndarray, layers: list[int]) -> np.ndarray:
    """A conversation of that many assistant tokens; residuals [n, layers, 32]."""
    n = len(residuals)
    numbers = np.arange(n, dtype=np.int32)
    none = np.zeros(0, np.int32)
    metadata = {"residual_layers": layers, "d_sae": 4, "turns": [], "error": None}
    with token_writer(path, metadata, 32) as write:
        block = TokenBlock(numbers, numbers * 0, numbers, ["a"] * n, np.zeros(n + 1, np.int64), none, none, residuals)
        write(block)
    return residuals


def test_the_scale_is_of_all_assistant_tokens_of_the_references(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    parts = [random.normal(3, 5, (n, 2, 32)).astype(np.float32) for n in (30, 50)]
    files = [tmp_path / f"{i}.parquet" for i in range(3)]
    h = np.concatenate([tokens_file(path, part, [0, 1]) for path, part in zip(files, parts, strict=False)])
    write_failure(files[2], {"d_sae": 4, "turns": []}, "no conversation")
    given = {"axis": drawn("axis", [0, 1, 2], 5), "late": drawn("late", [2], 6)}
    got = reference_scale(files, given, [])
    assert (got["conversations"], got["tokens"], sorted(got["columns"])) == (2, 80, ["axis@0", "axis@1"])
    vector = given["axis"].vectors["axis"][1].astype(np.float64)
    values = h[:, 1].astype(np.float64) @ vector / np.linalg.norm(vector)
    assert got["columns"]["axis@1"] == pytest.approx({"mean": values.mean(), "sd": values.std()}, rel=1e-5)
    assert got["norms"]["1"] == pytest.approx(np.linalg.norm(h[:, 1].astype(np.float64), axis=1).mean(), rel=1e-5)
    assert sorted(reference_scale(files, given, [1])["columns"]) == ["axis@1"]
    assert reference_scale([], given, [])["columns"] == {}


def test_without_references_zero_is_the_conversations_own_and_says_so(tmp_path: Path) -> None:
    one = trace()
    columns = {"axis@0": {"mean": 5.0, "sd": 2.0}}
    write_json(tmp_path / "scale.json", {"conversations": 9, "tokens": 900, "columns": columns, "norms": {}})
    found = scales_of(one, tmp_path / "scale.json")
    assert (found["axis@0"].zero, found["axis@0"].sd) == (5.0, 2.0)
    assert found["axis@0"].words == "zero is the mean over 900 assistant tokens of 9 reference conversations"
    answered = one.projections[np.arange(60) // 20 == 1, 2][2:].astype(np.float64)
    assert found["axis@1"].tokens == 54 and "of it" in found["axis@1"].of, "18 tokens of the assistant are too few"
    longer = trace(n=200)
    own = own_scale(longer, "axis@1")
    inside = (np.arange(200) // 20 % 2 == 1) & (np.arange(200) % 20 >= 2)
    assert own.zero == pytest.approx(longer.projections[inside, 2].mean(), rel=1e-5)
    assert own.tokens == inside.sum() and "of this conversation" in own.words
    assert own_scale(empty_trace(["axis@0"]), "axis@0").sd == 1.0 and len(answered) == 18


def test_the_line_is_a_mean_of_neighbors_within_the_message() -> None:
    random = np.random.default_rng(2)
    values, message = random.normal(size=57), np.repeat([0, 1, 4], [3, 40, 14])
    got = smoothed(values, message, window=5)
    for i in range(57):
        near = [j for j in range(max(0, i - 2), min(57, i + 3)) if message[j] == message[i]]
        assert got[i] == pytest.approx(values[near].mean())


def test_the_figure_has_a_panel_a_direction_at_its_last_layer_and_says_its_scale() -> None:
    one = trace()
    assert shown_columns(one.columns) == ["axis@1", "trait:calm@1"]
    figure = trace_figure(one, scales(one), "Trace of $talk$", {"axis@1": "split half 0.2 < 0.5"})
    texts = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    titles = [text for text in texts if "zero is the mean" in text]
    assert len(titles) == 2 and titles[0].startswith("axis, layer 1: ") and "split half 0.2 < 0.5" in texts
    assert len(figure.axes) == 3 and figure.get_suptitle() == "Trace of $talk$"


def test_a_token_far_beyond_the_others_is_drawn_at_the_edge_and_counted() -> None:
    one = trace(n=400)
    one.projections[30, 2] = 5000
    figure = trace_figure(one, scales(trace(n=400)), "t")
    top = figure.axes[0].get_ylim()[1]
    titles = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    assert top < 10 and any("tokens beyond the edge" in title for title in titles)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="trace">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_has_every_number_and_loads_nothing() -> None:
    one = trace()
    page = trace_page(one, scales(one), "Trace")
    data = data_of(page)
    assert [(c["direction"], c["layer"]) for c in data["columns"]] == [
        ("axis", 0),
        ("trait:calm", 0),
        ("axis", 1),
        ("trait:calm", 1),
    ]
    np.testing.assert_allclose([c["values"] for c in data["columns"]], one.projections.T, rtol=1e-4)
    assert data["surprise"][0] is None
    np.testing.assert_allclose(np.array(data["surprise"][1:], float), one.surprise[1:], rtol=1e-4)
    assert data["message"] == one.message_index.tolist() and data["content"] == one.in_content.astype(int).tolist()
    assert (
        "default-src 'none'" in page
        and not re.search(r"(?:src|href)\s*=", page)
        and "http:" not in page
        and "https:" not in page
    )
    assert len(re.findall(r"<b[ >]", page)) == len(one) == page.count("</b>")


def test_the_page_colors_content_by_its_sign_and_size() -> None:
    one = trace()
    unit = Scale(0.0, 1.0, 100, "tokens")
    one.projections[:, 2] = 0
    one.projections[[5, 25], 2] = [9.0, -0.1]
    spans = re.findall(r"<b( class=\"\w+\")?>", trace_page(one, dict.fromkeys(COLUMNS, unit), "t"))
    assert (spans[5], spans[25], spans[6]) == (' class="p10"', ' class="n1"', ' class="z"')
    assert spans[0] == spans[21] == "", "template tokens have no color"


def test_texts_are_escaped_and_numbers_cannot_end_their_block() -> None:
    one = trace(HOSTILE * 4)
    one.metadata["conversation"]["name"] = "</script><script>alert(1)</script>"
    doubts = {"axis@1": "</script><b>doubt"}
    page = trace_page(one, scales(one), "</script><script>alert(1)</script>", doubts)
    assert page.count("<script") == 2 and "<img" not in page and "\u202e" not in page and "\x1b" not in page
    assert data_of(page)["columns"][2]["doubt"] == "</script><b>doubt"


def test_the_bytes_of_one_character_are_one_piece() -> None:
    one = trace(["\u2581a", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "\u2581b"] * 3)
    data = data_of(trace_page(one, scales(one), "t"))
    assert data["position"][:4] == [0, 1, 5, 6] and len(data["surprise"]) == 9
    assert data["surprise"][1] == pytest.approx(float(one.surprise[1:5].sum()), rel=1e-4)
    assert data["columns"][0]["values"][1] == pytest.approx(float(one.projections[1:5, 0].mean()), rel=1e-4)


def test_a_conversation_that_failed_has_a_figure_and_a_page_that_say_why(tmp_path: Path) -> None:
    metadata = trace().metadata | {"error": "talk.json, message 3: no <role>"}
    write_trace(tmp_path / "talk.parquet", empty_trace(COLUMNS), metadata)
    write_json(tmp_path / "scale.json", {"conversations": 0, "tokens": 0, "columns": {}, "norms": {}})
    figures = [tmp_path / "talk.png", tmp_path / "talk.svg"]
    plot_trace(tmp_path / "talk.parquet", tmp_path / "scale.json", {}, figures, tmp_path / "talk.html")
    assert "message 3: no &lt;role&gt;" in (tmp_path / "talk.html").read_text()
    assert all(figure.stat().st_size > 1000 for figure in figures)


def test_doubts_about_a_direction_are_of_its_columns(tmp_path: Path) -> None:
    table = (
        "space,interpretable,reason\nsae,False,AUC 0.5\nresidual layer 0,False,AUC 0.7 < 0.75\nresidual layer 1,True,\n"
    )
    (tmp_path / "agreement.csv").write_text(table)
    write_json(tmp_path / "evaluation.json", {"doubts": ["few pairs", "r below 0.3"]})
    evidence = {"axis": str(tmp_path / "agreement.csv"), "trait:calm": str(tmp_path / "evaluation.json")}
    calm = "do not rely on it: few pairs; r below 0.3"
    assert doubts_of(COLUMNS, evidence) == {
        "axis@0": "do not interpret: AUC 0.7 < 0.75",
        "trait:calm@0": calm,
        "trait:calm@1": calm,
    }
    assert doubts_of(COLUMNS, {}) == {}
