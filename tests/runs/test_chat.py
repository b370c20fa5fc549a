"""The command `chat` as a user runs it: JSON, terminal, files, and mistakes in one line."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope import cli
from personascope.display.stream import LiveReply, PlainReply, bar, color_depth, trace_line
from personascope.formats.conversations import read_conversation
from personascope.formats.traces import read_trace
from personascope.hosting.loaded import Loaded
from personascope.hosting.operations import monitor as operation
from personascope.models.loading import ModelSpec
from tests.helpers.directions import drawn, save_tiny, saved

SAID = ["What is the meaning of life?", "Who said so?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Any, chat_tokenizer: Any) -> Path:
    """A model, and directions of it."""
    place = tmp_path_factory.mktemp("chat")
    save_tiny(place / "tiny", tiny_llama, chat_tokenizer)
    for i, (name, layers) in enumerate({"axis": [0, 1, 2], "calm": [1, 2]}.items()):
        saved(place / f"{name}.safetensors", drawn(name, layers, i))
    saved(place / "other.safetensors", drawn("other", [1], model="other"))
    saved(place / "narrow.safetensors", drawn("narrow", [1], width=16))
    return place


def chat(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    """Run it in this process; other directions than these are given by the arguments."""
    files = [str(folder / f"{name}.safetensors") for name in ("axis", "calm")]
    given = ["--model", str(folder / "tiny"), "--dtype", "float32", "--device", "cpu", "--max-tokens", "12"]
    monkeypatch.setattr(sys, "argv", ["personascope", "chat", *given, "--directions", *files, *arguments])
    cli.main()


def test_json_is_the_trace_of_the_conversation_that_was_saved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = tmp_path / "talk.json"
    say = [part for text in SAID for part in ("--say", text)]
    options = ["--monitor", "axis, calm", "--layer", "1,2", "--seed", "2", "--system", "Be brief."]
    chat(monkeypatch, folder, *options, "--json", "--save", str(save), *say)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    made = operation.Request(
        model=ModelSpec(str(folder / "tiny"), dtype="float32", device="cpu"),
        store=str(tmp_path),
        code="",
        conversation_file=str(save),
        names=["axis", "calm"],
        directions=[str(folder / f"{name}.safetensors") for name in ("axis", "calm")],
        how={},
        layers=[1, 2],
        too_long="refuse",
        trace=str(tmp_path / "trace.parquet"),
    )
    operation.run(Loaded(), lambda line: None, made)
    trace = read_trace(made.trace)
    last = {row["position"]: row for row in rows}
    assert sorted(last) == list(range(len(trace)))
    assert [last[i]["token_id"] for i in last if i < len(trace)] == [trace.token_ids[i] for i in last]
    for i, column in enumerate(trace.columns):
        got = [last[position]["projections"][column] for position in range(len(trace))]
        np.testing.assert_allclose(got, trace.projections[:, i], atol=1e-4)
    np.testing.assert_allclose([last[i]["surprise"] for i in range(1, len(trace))], trace.surprise[1:], atol=1e-4)
    assert [last[i]["in_content"] for i in range(len(trace))] == trace.in_content.tolist()
    read = read_conversation(save)
    assert [m["content"] for m in read.messages if m["role"] == "user"] == SAID
    assert read.metadata["seed"] == 2 and read.metadata["monitor"] == trace.columns


def test_a_pipe_gets_text_without_colors_and_a_line_a_direction(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = tmp_path / "talk.json"
    steer = ["--steer", "axis:-0.5@1", "--cap", "calm:-1:1@1-2"]
    chat(monkeypatch, folder, "--monitor", "axis,calm", *steer, "--say", SAID[0], "--save", str(save))
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert re.search(r"^axis@2 +mean [+\u2212]\d+\.\d\d sd [\u2581-\u2588]{1,12}$", captured.out, re.MULTILINE)
    assert "zero is the mean over" in captured.err and "cap at layer 1: " in captured.err
    answer = json.loads(save.read_text())["conversation"][-1]
    assert answer["steering"] == ["steer axis:-0.5@1", "cap calm:-1:1@1-2"]
    assert read_conversation(save).messages[-1]["role"] == "assistant"


MISTAKES = {
    "direction": (["--monitor", "nobody"], "no direction 'nobody'; there are axis, calm"),
    "layer": (["--monitor", "calm", "--layer", "0"], "calm is not known at layer 0; it is at layers 1, 2"),
    "steered-layer": (["--steer", "calm:1@0"], "calm is not known at layer 0"),
    "steered-direction": (["--steer", "nobody:1@0"], "no direction 'nobody'"),
    "coefficient": (["--steer", "axis:nan@1"], "steer 'axis:nan@1': nan is no coefficient"),
    "cap": (["--cap", "axis:1@1"], "expected NAME:LOW:HIGH@LAYER"),
    "file": (["--directions", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
    "save": (["--save", ".hidden.json"], "rename the file"),
    "experiment": (["--experiment", "never"], "no run of the experiment 'never' was started here"),
    "configfile": (["--configfile", "nowhere.yaml"], "cannot be read as configuration"),
    "other-model": (["--directions", "OTHER", "--monitor", "other"], "directions of other, not of "),
    "other-width": (["--directions", "NARROW", "--monitor", "narrow"], "16 dimensions, but d_model of"),
}


@pytest.mark.parametrize("case", list(MISTAKES))
def test_mistakes_are_one_line_and_nothing_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arguments, said = MISTAKES[case]
    given = [str(folder / f"{a.lower()}.safetensors") if a.isupper() else a for a in arguments]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        chat(monkeypatch, folder, *given, "--say", "hi")
    captured = capsys.readouterr()
    assert ended.value.code == 1 and captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and said in captured.err
    assert list(tmp_path.iterdir()) == []


def test_lines_of_a_pipe_are_messages_and_commands(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    save = tmp_path / "talk.json"
    lines = ["Who?", "/new", "", "//tell me", "/steer axis:0.1@2", f"/save {save}", "And?", "/steer off", "/quit", "no"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    chat(monkeypatch, folder, "--monitor", "axis")
    talk = json.loads(save.read_text())["conversation"]
    assert [m["content"] for m in talk if m["role"] == "user"] == ["/tell me", "And?"]
    assert [m.get("steering") for m in talk if m["role"] == "assistant"] == [None, ["steer axis:0.1@2"]]
    assert "no steering" in capsys.readouterr().err


class Screen:
    """A terminal that knows what a reply uses: carriage return, newline, up, erase to the end, colors."""

    def __init__(self) -> None:
        self.lines, self.row, self.column, self.cursor = [""], 0, 0, True

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        pass

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|.|\n", text, re.DOTALL):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif part.startswith("\x1b"):
                self._obey(part)
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1

    def _obey(self, code: str) -> None:
        if code.endswith("A"):
            self.row -= int(code[2:-1])
        elif code.endswith("K"):
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif code.startswith("\x1b[?25"):
            self.cursor = code.endswith("h")
        else:
            assert code.endswith("m"), code


@pytest.mark.parametrize("depth", [0, 256, 1 << 24])
def test_a_terminal_shows_the_text_with_the_trace_under_it(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    monkeypatch.setenv("COLUMNS", "31")
    screen: Any = Screen()
    reply = LiveReply(screen, ["axis@15", "calm@15"], depth)
    text = "The answer of the assist ant is forty two.\nSaid \x1b[31mhe."
    for token in re.findall(r" ?[^ \n]+|\n", text):
        reply.token(token, [-1.5, 2.0])
        assert screen.lines[screen.row + 1].startswith("axis@15"), "under the line that is written"
    assert not screen.cursor
    reply.end()
    shown = [line.rstrip() for line in screen.lines]
    assert shown[:3] == ["The answer of the assist ant", "is forty two.", "Said \u241b[31mhe."]
    assert shown[3].startswith("axis@15") and shown[4].startswith("calm@15") and screen.cursor
    assert all(len(line) < 31 for line in shown)


def test_a_word_of_several_tokens_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "31")
    screen: Any = Screen()
    reply = LiveReply(screen, [], 0)
    for token in ["The", " answer", " of", " the", " Mad", "ha", "va", "ra", "ma", "ya", " he", "x" * 70]:
        reply.token(token, [])
    reply.end()
    assert screen.lines[:2] == ["The answer of the", "Madhavaramaya"]
    assert "".join(screen.lines).endswith("he" + "x" * 70)


def test_colors_are_off_without_a_terminal_or_where_they_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen: Any = Screen()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert color_depth(screen) == 1 << 24
    monkeypatch.setenv("COLORTERM", "")
    assert color_depth(screen) == 256
    monkeypatch.setenv("NO_COLOR", "1")
    assert color_depth(screen) == 0
    monkeypatch.delenv("NO_COLOR")
    with (tmp_path / "out").open("w") as out:
        assert color_depth(out) == 0
        PlainReply(out, ["axis@1"]).end()


def test_bars_and_lines() -> None:
    assert [bar(value) for value in (-9, -3, 0, 2.99, 9)] == ["\u2581", "\u2581", "\u2585", "\u2588", "\u2588"]
    assert trace_line("axis@15", [1.0, -1.0], 40).startswith("axis@15" + " " * 18 + "\u22121.00 sd ")
    assert trace_line("a" * 40, [1.0], 10) == "a" * 10
