"""A conversation that is a line of its file, through the model host's operation."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from personascope.formats.tokens import read_activations, read_metadata
from personascope.hosting.operations import extract_conversation
from tests.helpers.planted import TALK, Planted


def test_a_line_is_extracted_as_a_file_of_its_own_would_be(tmp_path: Path, chat_tokenizer: Any) -> None:
    planted = Planted(tmp_path, chat_tokenizer)
    source = tmp_path / "many talks.jsonl"
    other = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    lines = [json.dumps(other), json.dumps({"id": "x/7", "messages": TALK}), "{broken"]
    source.write_text("\n".join(lines))

    def extracted(line: int, title: str) -> tuple[Path, list[str]]:
        output, said = tmp_path / f"line{line}.parquet", []
        request = extract_conversation.Request(
            **planted.common,
            conversation_file=str(source),
            place={"line": line, "title": title},
            tokens=str(output),
            user_means=str(tmp_path / f"line{line}.npz"),
        )
        extract_conversation.run(planted.loaded, said.append, request)
        return output, said

    alone, (line, said) = tmp_path / "tokens.parquet", extracted(2, "x/7")
    assert said[-1].startswith("x-7: ")
    theirs, ours = read_activations(alone, "sae", None), read_activations(line, "sae", None)
    assert np.array_equal(theirs.values, ours.values) and theirs.tokens == ours.tokens
    held = read_metadata(line)["conversation"]
    assert (held["name"], held["messages"]) == ("x-7", TALK) and held["metadata"] == {"title": "x/7", "id": "x/7"}
    assert extracted(2, "x/7")[1][-1] == "x/7: token activations are in the store"
    lines[0] = json.dumps([*other, *other])
    source.write_text("\n".join(lines))
    assert extracted(2, "x/7")[1][-1] == "x/7: token activations are in the store", "another line has changed"
    broken = read_metadata(extracted(3, "many talks#3")[0])
    assert broken["error"].startswith(f"{source}, line 3: not valid JSON")
    assert broken["conversation"] == {"name": "many-talks-3", "messages": [], "metadata": {"title": "many talks#3"}}
