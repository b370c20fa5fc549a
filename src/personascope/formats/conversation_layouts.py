"""The layouts in which people keep conversations, read into one: a list of messages.

A message is {"role", "content"} and, where the file has them, the keys of `KEPT`. Roles are system, user, assistant
and tool; content is text, or None beside tool calls. Read are a list of messages, and an object that holds one under
``conversation``, ``messages`` (OpenAI) or ``conversations`` (ShareGPT: from, value); what else the object holds is
metadata, but for a system prompt of its own, which becomes the first message. Messages are counted from 0 as they
stand in the file. What cannot be read faithfully is a UserError of one line.

Needs only the standard library.
"""

import json
from typing import Any

from personascope.errors import UserError
from personascope.formats.checks import checked_text, others, short

Message = dict[str, Any]
LISTS = ("conversation", "messages", "conversations")
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
SHAREGPT = {"human": "user", "gpt": "assistant", "observation": "tool"}
CALL = "function_call"  # of ShareGPT: a turn of the assistant that is one call, or a list of calls, as JSON
KEPT = ("tool_calls", "reasoning_content", "thinking", "name", "tool_call_id")
TEXT_PARTS = ("text", "input_text", "output_text")
SYSTEMS = ("system", "system_prompt")  # keys of an object beside its messages
MEDIA = tuple(f"{kind}{s}" for kind in ("image", "audio", "video") for s in ("", "s"))  # as LLaVA and Ollama have them
CAMERA = ("image", "audio", "video", "file", "document")  # how the types of parts that are no text begin, or go on


def messages_of(payload: Any, where: str) -> tuple[list[Message], dict[str, Any]]:
    """(messages, metadata) of what a file or a line holds; `where` starts every complaint."""
    metadata: dict[str, Any] = {}
    messages, system = payload, ""
    if isinstance(payload, dict):
        key = _list_key(payload, where)
        messages = payload[key]
        metadata = others(payload, (key,), where)
        _no_media(metadata, where)
        system = _system_beside(metadata, where)
    if not isinstance(messages, list):
        raise UserError(f"{where}: a conversation must be a list of messages, found {type(messages).__name__}")
    if not messages:
        raise UserError(f"{where}: the conversation is an empty list; give at least one message")
    _not_many(messages, where)
    read = [read_message(message, f"{where}: message {i}") for i, message in enumerate(messages)]
    if system:
        read = _with_system(system, read, where)
    if not any(message["role"] == "assistant" for message in read):
        raise UserError(f"{where}: no message of the assistant among messages 0 to {len(messages) - 1}")
    return read, metadata


def _list_key(payload: dict[str, Any], where: str) -> str:
    """The key that holds the messages: the only list among those that may."""
    there = [key for key in LISTS if key in payload]
    lists = [key for key in there if isinstance(payload[key], list)] or there
    if not there:
        hint = _foreign(payload)
        named = ", ".join(f'"{key}"' for key in LISTS)
        raise UserError(f"{where}: the object has none of {named} (the list of messages){hint}")
    if len(lists) > 1:
        raise UserError(f'{where}: the object has both "{lists[0]}" and "{lists[1]}"; keep the one that is meant')
    return lists[0]


def _foreign(payload: dict[str, Any]) -> str:
    """What to do with an object of another program, or with a message alone."""
    if "role" in payload or {"from", "value"} <= payload.keys():
        return "; it is a message alone: put all messages of a conversation into one list"
    foreign = {"samples", "eval"} <= payload.keys() or {"chosen", "rejected"} <= payload.keys()
    foreign = foreign or {"metadata", "target_messages"} <= payload.keys() or {"metadata", "events"} <= payload.keys()
    return "; `personascope import-conversations` reads this layout" if foreign else ""


def _not_many(messages: list[Any], where: str) -> None:
    """UserError for a list of conversations."""
    first = messages[0]
    if isinstance(first, list) or (isinstance(first, dict) and "role" not in first and any(k in first for k in LISTS)):
        raise UserError(
            f"{where}: it is a list of {len(messages)} conversations; write one a line into a file that ends in "
            ".jsonl, or let `personascope import-conversations` do it"
        )


def _no_media(keys: dict[str, Any], where: str) -> None:
    """UserError where pictures or sound stand beside the text, under a key of a message or of the whole."""
    if found := next((key for key in MEDIA if keys.get(key)), None):
        raise UserError(f"{where} has {found!r}, which is not read, since only text is; take the conversation out")


def _system_beside(metadata: dict[str, Any], where: str) -> str:
    """The system prompt beside the messages, taken out of the metadata; "" where there is none."""
    found = {key: metadata.pop(key) for key in SYSTEMS if metadata.get(key)}
    read = {key: _content({key: value}, key, False, where) or "" for key, value in found.items()}
    if len(set(read.values())) > 1:
        raise UserError(f"{where}: {' and '.join(read)} differ; keep the one that the model was shown")
    return next(iter(read.values()), "")


def _with_system(system: str, read: list[Message], where: str) -> list[Message]:
    """A system prompt beside the messages is what the model saw first."""
    if read[0]["role"] != "system":
        return [{"role": "system", "content": system}, *read]
    if read[0]["content"] != system:
        raise UserError(f"{where}: the system prompt beside the messages is not their own; keep one of them")
    return read


def read_message(message: Any, where: str) -> Message:
    """One message, checked; other keys than those read are checked to be JSON and left out."""
    if not isinstance(message, dict):
        raise UserError(f"{where} must be an object with role and content, found {type(message).__name__}")
    if "role" not in message and {"from", "value"} <= message.keys():
        return _sharegpt(message, where)
    if "role" not in message:
        raise UserError(f'{where} has no "role"')
    if {"from", "value"} <= message.keys() and message["value"] != message.get("content"):
        raise UserError(f'{where} has role and content as well as other "from" and "value"; keep one of the two')
    role = checked_text(message["role"], f"{where}: role", may_be_empty=True)
    if role not in ROLES:
        raise UserError(f"{where}: unknown role {short(role)}; roles are {', '.join(ROLES)}")
    return _made(ROLES[role], message, "content", where)


def _sharegpt(message: dict[str, Any], where: str) -> Message:
    sender = checked_text(message["from"], f'{where}: "from"', may_be_empty=True)
    if sender == CALL:
        return {"role": "assistant", "content": None, "tool_calls": _calls(message["value"], where)}
    if sender not in SHAREGPT and sender not in ROLES:
        raise UserError(f'{where}: unknown "from" {short(sender)}; senders are {", ".join((*SHAREGPT, CALL, *ROLES))}')
    return _made(SHAREGPT.get(sender) or ROLES[sender], message, "value", where)


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    """Tool calls in OpenAI's layout from the JSON of {"name", "arguments"}, one or a list."""
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        calls = None
    read: list[dict[str, Any]] = []
    for call in calls if isinstance(calls, list) and calls else [calls]:
        if not isinstance(call, dict) or not {"name", "arguments"} <= call.keys():
            raise UserError(f'{where}: the value of a {CALL} must be JSON of "name" and "arguments"')
        read.append({"type": "function", "function": {key: call[key] for key in ("name", "arguments")}})
    others({"value": read}, (), where)
    return read


def _made(role: str, message: dict[str, Any], key: str, where: str) -> Message:
    """The message of a role, its content under `key`; null among the further keys counts as not there."""
    others(message, ("role", "from", key), where)
    _no_media(message, where)
    kept: dict[str, Any] = {}
    for name in KEPT:
        value = message.get(name)
        if value is not None and value != []:
            kept[name] = _further(name, value, role, where)
    if "reasoning_content" not in kept and isinstance(message.get("reasoning"), str):
        kept["reasoning_content"] = message["reasoning"]  # as OpenRouter and vLLM call it
    if message.get("function_call") is not None:
        raise UserError(f'{where} has a "function_call", OpenAI\'s old form; write it as "tool_calls"')
    if message.get("refusal"):
        raise UserError(f'{where} has a "refusal"; where that is what the model said, write it as {key}')
    content = _content(message, key, "tool_calls" in kept, where)
    return {"role": role, "content": content, **kept}


def _further(name: str, value: Any, role: str, where: str) -> Any:
    if name == "tool_calls":
        if role != "assistant":
            raise UserError(f"{where}: tool_calls in a message of the {role}; only the assistant calls tools")
        if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
            raise UserError(f"{where}: tool_calls must be a list of objects")
        return value
    return checked_text(value, f"{where}: {name}", may_be_empty=True)


def _content(message: dict[str, Any], key: str, calls: bool, where: str) -> str | None:
    """Text, text parts joined by newlines, or None beside tool calls."""
    if key not in message and not calls:
        raise UserError(f'{where} has no "{key}"')
    value = message.get(key)
    if value is None and calls:
        return None
    if isinstance(value, list):
        return "\n".join(_part(part, f"{where}: part {i}") for i, part in enumerate(value))
    if value is None:
        raise UserError(f"{where}: {key} is null, which is read beside tool_calls only; give text, or take it out")
    return checked_text(value, f"{where}: {key}", may_be_empty=True)


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return checked_text(part, where, may_be_empty=True)
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str):
        raise UserError(f"{where} must be text or an object with a type, found {type(part).__name__} without")
    if kind not in TEXT_PARTS:
        seen = next((word for word in CAMERA if word in kind), None)
        found = f"{short(kind)}: {seen} is not read, since only text is" if seen else f"of type {short(kind)}, not text"
        raise UserError(f"{where} is {found}; take the part or the conversation out")
    return checked_text(part.get("text"), f"{where}: text", may_be_empty=True)


def shown(message: Message) -> str:
    """What pages show of a message: its content, and its tool calls as JSON, one a line."""
    calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls") or []]
    return "\n".join([*filter(None, [message.get("content")]), *calls])
