"""Messages in the logs of Inspect, and in the transcripts of Petri, which are made of the same.

Layouts: `inspect_ai` 0.3 (ChatMessage, Content, ToolCall, EvalSample) and Petri's transcript schema v3. A tool's
result that is an error is what OpenAI-like servers are shown of it: "Error: " and its message.

Needs only the standard library.
"""

from collections.abc import Mapping
from typing import Any

from personascope.errors import UserError
from personascope.formats.checks import short
from personascope.formats.conversation_layouts import Message

ATTACHMENTS = ("attachment://", "tc://")  # how a text begins that stands elsewhere in the sample
TARGET = "target"


def inspect_sample(sample: Mapping[str, Any], where: str) -> tuple[list[Message], int]:
    """(messages of a sample, how many of them had reasoning that the log has redacted)."""
    attached = sample.get("attachments") or {}
    messages = sample.get("messages")
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where}: the sample has no messages")
    return _messages(messages, attached if isinstance(attached, dict) else {}, where)


def petri_messages(payload: Mapping[str, Any], where: str) -> tuple[list[Message], int]:
    """The same of what Petri's target has seen and said: `target_messages`, else what its events come to."""
    messages = payload.get("target_messages")
    if not messages:
        messages = replayed(payload.get("events"), where)
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where}: the transcript has no message of the target's view")
    return _messages(messages, {}, where)


def replayed(events: Any, where: str) -> list[Any]:
    """The messages of the target's view after all events that change it."""
    messages: list[Any] = []
    for number, event in enumerate(events if isinstance(events, list) else []):
        if not isinstance(event, dict) or event.get("type") != "transcript_event":
            continue
        view = event.get("view")
        if TARGET in (view if isinstance(view, list) else [view]):
            messages = _edited(messages, event.get("edit") or {}, f"{where}: event {number}")
    return messages


def _edited(messages: list[Any], edit: Any, where: str) -> list[Any]:
    if not isinstance(edit, Mapping):
        raise UserError(f"{where}: an edit must be an object, found {type(edit).__name__}")
    operation = edit.get("operation")
    if operation == "add":
        return [*messages, edit.get("message")]
    if operation == "reset":
        return list(_listed(edit.get("new_messages"), f"{where}: new_messages"))
    if operation == "rollback":
        return _rolled_back(messages, edit, where)
    if operation == "json_patch":
        for change in _listed(edit.get("patch"), f"{where}: patch"):
            messages = _patched(messages, change, where)
        return messages
    raise UserError(f"{where}: unknown operation {short(str(operation))}")


def _rolled_back(messages: list[Any], edit: Mapping[str, Any], where: str) -> list[Any]:
    """To just behind the message `to_id`, else by `count` messages."""
    if edit.get("to_id"):
        ids = [message.get("id") for message in messages if isinstance(message, dict)]
        if edit["to_id"] not in ids:
            raise UserError(f"{where}: rolls back to {short(str(edit['to_id']))}, which is not there")
        return messages[: ids.index(edit["to_id"]) + 1]
    count = edit.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= len(messages):
        raise UserError(f"{where}: rolls back {count} of {len(messages)} messages")
    return messages[: len(messages) - count]


def _patched(messages: list[Any], change: Any, where: str) -> list[Any]:
    """After a change of one whole message, "/3" or "/-" (RFC 6902)."""
    change = change if isinstance(change, dict) else {}
    operation, place = change.get("op"), str(change.get("path", "")).removeprefix("/")
    index = len(messages) if place == "-" else int(place) if place.isdecimal() else -1
    there = 0 <= index < len(messages)
    if operation == "add" and (there or index == len(messages)):
        return [*messages[:index], change.get("value"), *messages[index:]]
    if operation == "replace" and there:
        return [*messages[:index], change.get("value"), *messages[index + 1 :]]
    if operation == "remove" and there:
        return [*messages[:index], *messages[index + 1 :]]
    raise UserError(f"{where}: a patch of {short(str(change.get('path')))} by {operation}, which is not read")


def _messages(messages: list[Any], attached: Mapping[str, Any], where: str) -> tuple[list[Message], int]:
    read = [_message(message, attached, f"{where}: message {i}") for i, message in enumerate(messages)]
    return [message for message, _ in read], sum(redacted for _, redacted in read)


def _message(message: Any, attached: Mapping[str, Any], where: str) -> tuple[Message, bool]:
    """The message, and whether it had reasoning that is redacted."""
    if not isinstance(message, dict):
        raise UserError(f"{where} must be an object, found {type(message).__name__}")
    role = message.get("role") or message.get("type")  # `type` in Petri's first versions
    texts, reasoning, redacted = _content(message.get("content"), attached, where)
    made: Message = {"role": role, "content": "\n".join(texts)}
    if reasoning:
        made["reasoning_content"] = "\n".join(reasoning)
    if calls := message.get("tool_calls"):
        made["tool_calls"] = [_call(call, attached, where) for call in _listed(calls, f"{where}: tool_calls")]
    if role == "tool":
        error = message.get("error")
        if isinstance(error, dict):
            made["content"] = f"Error: {_resolved(error.get('message'), attached, where)}"
        named = {"tool_call_id": message.get("tool_call_id"), "name": message.get("function")}
        made |= {key: value for key, value in named.items() if value is not None}
    return made, redacted


def _listed(value: Any, where: str) -> list[Any]:
    """A list; null is an empty one."""
    if not isinstance(value or [], list):
        raise UserError(f"{where} must be a list, found {type(value).__name__}")
    return value or []


def _content(value: Any, attached: Mapping[str, Any], where: str) -> tuple[list[str], list[str], bool]:
    """Texts, reasoning, and whether some of it is redacted."""
    if isinstance(value, str):
        return [_resolved(value, attached, where)], [], False
    if not isinstance(value, list):
        raise UserError(f"{where}: content must be text or a list of parts, found {type(value).__name__}")
    texts, reasoning, redacted = [], [], False
    for i, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(_resolved(part, attached, where))
        elif kind == "text":
            texts.append(_resolved(part.get("text"), attached, where))
        elif kind == "reasoning" and part.get("redacted"):
            redacted = True
        elif kind == "reasoning":
            reasoning.append(_resolved(part.get("reasoning"), attached, where))
        else:
            raise UserError(f"{where}: part {i} is of type {short(str(kind))}, which is not read, since only text is")
    return texts, reasoning, redacted


def _resolved(text: Any, attached: Mapping[str, Any], where: str) -> str:
    """The text, or the attachment that it names."""
    if not isinstance(text, str):
        raise UserError(f"{where}: text expected, found {type(text).__name__}")
    for start in ATTACHMENTS:
        if text.startswith(start):
            found = attached.get(text.removeprefix(start))
            if not isinstance(found, str):
                raise UserError(f"{where}: its text is an attachment, {short(text)}, that the log does not hold")
            return found
    return text


def _call(call: Any, attached: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A tool call in OpenAI's layout."""
    call = call if isinstance(call, dict) else {}
    name, arguments = call.get("function") or call.get("name"), call.get("arguments", call.get("args"))
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise UserError(f"{where}: a tool call must have a function and arguments")
    if call.get("parse_error"):
        raise UserError(f"{where}: a tool call that could not be parsed, so that its text is not known")
    arguments = {key: _resolved(v, attached, where) if isinstance(v, str) else v for key, v in arguments.items()}
    named = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return named | {"type": "function", "function": {"name": name, "arguments": arguments}}
