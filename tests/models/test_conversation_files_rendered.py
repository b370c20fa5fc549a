"""From a conversation file to tokens: what the file holds reaches the chat template."""

import json
from pathlib import Path

from personascope.formats.conversations import read_conversation
from personascope.models.spans import encode_conversation
from tests.models.test_message_fields import CASES, own
from tests.models.test_spans import real, span_texts


def test_tool_calls_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text(json.dumps({"messages": CASES["arguments as text"]}))
    messages = read_conversation(file).messages
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    calls = '<tool_call>\n{"name": "lookalpha", "arguments": {"city": "Parisbeta"}}\n</tool_call>'
    assert span_texts(real("qwen3"), messages, ["assistant", "tool"]) == [calls, "result0word", "Sunnygamma."]
    assert encode_conversation(real("qwen2_5"), messages).ids == own(real("qwen2_5"), CASES["null"])
