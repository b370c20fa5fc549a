"""A tokenizer's chat template: which one, with which date and variables, and the forms of a message it may want.

A rendering is what the tokenizer's own `apply_chat_template` makes of the messages as they are. Only where the template
refuses them, or leaves a part of them out, are they tried in other forms that say the same: content as a list of parts,
blank text for null, a tool call's arguments parsed.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import Any

from jinja2.exceptions import TemplateError

from personascope.errors import UserError

Message = dict[str, Any]
Form = Callable[[Message], Message]
# What a template may raise over messages that it was not written for.
REFUSALS = (TemplateError, TypeError, ValueError, LookupError, AttributeError)
REASONING = ("reasoning_content", "thinking")
# Arguments of `apply_chat_template` itself, which are no variables of the template.
RESERVED = frozenset(
    (
        *("conversation", "messages", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize"),
        *("padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
        *("tokenizer_kwargs", "strftime_now"),
    )
)


@dataclass(frozen=True)
class Template:
    """How the chat template is used.

    date: the day, year-month-day, that it takes for today, so that the same text gives the same tokens on any day;
    name: which one, where there are several; variables: values for it, as `enable_thinking` or `tools`.
    UserError names the setting that cannot be used.
    """

    date: str = "2024-07-26"
    name: str = "default"
    variables: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        try:
            datetime.strptime(self.date, "%Y-%m-%d")
        except ValueError:
            raise UserError(f"model.template.date: {self.date!r} is no day; write it as 2024-07-26") from None
        if taken := sorted(RESERVED & self.variables.keys()):
            raise UserError(f"model.template.variables: {taken[0]} is not the template's; leave it out")

    @property
    def values(self) -> dict[str, Any]:
        """What the template is given beside the messages."""
        today = datetime.strptime(self.date, "%Y-%m-%d")
        clock = {"date_string": today.strftime("%d %b %Y"), "strftime_now": lambda format: today.strftime(format)}
        return clock | self.variables


def use_template(tokenizer: Any, template: Template) -> None:
    """Have a tokenizer render with this template from now on; UserError where it has none of the name."""
    tokenizer.chat_template = template_text(tokenizer, template)
    tokenizer.chat_settings = template


def settings_of(tokenizer: Any) -> Template:
    """How the tokenizer's template is used: as it was loaded, or with the defaults."""
    return getattr(tokenizer, "chat_settings", Template())


def template_text(tokenizer: Any, template: Template | None = None) -> str:
    """The chat template itself; UserError where several have names and none has this one."""
    name = (template or settings_of(tokenizer)).name
    named = tokenizer.chat_template
    if not isinstance(named, dict):
        # One template, or the one that was chosen when the tokenizer was loaded.
        if template is not None and name != "default":
            raise UserError(
                f"model.template.name: {name!r}; the tokenizer has one template without a name, leave it out"
            )
        return named
    if name not in named:
        raise UserError(f"model.template.name: there is no template {name!r}; there are {', '.join(sorted(named))}")
    return named[name]


def template_hash(tokenizer: Any) -> str:
    """Short hash of the chat template, its date and its variables, for metadata and cache keys."""
    settings = settings_of(tokenizer)
    decides = [template_text(tokenizer), settings.date, settings.variables]
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:16]


def apply(tokenizer: Any, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """The rendering of exactly these messages; one of REFUSALS where the template does not take them."""
    return tokenizer.apply_chat_template(
        list(messages),
        chat_template=template_text(tokenizer),
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        **settings_of(tokenizer).values,
    )


def text_of(message: Message) -> str:
    """A message's content as text: "" for null, parts joined by newlines."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content)
    return content or ""


def check_text(messages: Sequence[Message]) -> None:
    """UserError names the message that holds something else than text."""
    for i, message in enumerate(messages):
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            if not isinstance(part, dict) or not isinstance(part.get("text"), str):
                kind = part.get("type") if isinstance(part, dict) else type(part).__name__
                raise UserError(f"message {i} ({message['role']}): a part is {kind!r}; only text can be read")


def prints_parts(text: str, messages: Sequence[Message]) -> bool:
    """Whether a rendering shows the list of a content as code, where the template expects text."""
    said = "".join(text_of(message) for message in messages)
    return any(shown in text and shown not in said for shown in ("{'type': 'text'", '{"type": "text"'))


# ---- forms of a message that say the same ----------------------------------------------------------------------------


def _same(message: Message) -> Message:
    return message


def _text(message: Message) -> Message:
    return {**message, "content": text_of(message)}


def _null(message: Message) -> Message:
    blank = message.get("tool_calls") and not text_of(message).strip()
    return {**message, "content": None} if blank else message


def _parts(message: Message) -> Message:
    text = text_of(message)
    return {**message, "content": [{"type": "text", "text": text}] if text else []}


def _objects(arguments: Any) -> Any:
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except ValueError:
            return arguments
        return parsed if isinstance(parsed, dict) else arguments
    return arguments


def _json_text(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _bare(message: Message) -> Message:
    return {key: value for key, value in message.items() if key in ("role", "content") or value not in (None, "", [])}


FIELDS: dict[str, Form] = {"as they are": _same, "without empty ones": _bare}
CONTENTS: dict[str, Form] = {"as it is": _same, "text": _text, "null": _null, "parts": _parts}
ARGUMENTS: dict[str, Callable[[Any], Any]] = {"as they are": lambda a: a, "objects": _objects, "text": _json_text}


def forms(messages: Sequence[Message]) -> Iterator[Form]:
    """Forms that all messages may be given, the one as they are first; each makes something else of them."""
    seen: list[list[Message]] = []
    variants = (FIELDS.values(), CONTENTS.values(), ARGUMENTS.values(), (None, *REASONING))
    for fields, content, arguments, key in product(*variants):

        def form(message: Message, f: Form = fields, c: Form = content, a: Any = arguments, k: Any = key) -> Message:
            return _renamed(with_calls(c(f(message)), lambda call: _with_arguments(call, a)), k)

        formed = [form(message) for message in messages]
        if formed not in seen:
            seen.append(formed)
            yield form


def with_calls(message: Message, change: Callable[[Message], Message]) -> Message:
    """A message whose tool calls' functions (name and arguments) are changed."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_changed(call, change) for call in calls]}


def _changed(call: Any, change: Callable[[Message], Message]) -> Any:
    if not isinstance(call, dict):
        return call
    inner = call.get("function")
    return {**call, "function": change(inner)} if isinstance(inner, dict) else change(call)


def _with_arguments(function: Message, change: Callable[[Any], Any]) -> Message:
    return {**function, "arguments": change(function["arguments"])} if "arguments" in function else function


def _renamed(message: Message, key: str | None) -> Message:
    """Its reasoning under the key that the template may know."""
    if key is None or not (reasoning := reasoning_of(message)):
        return message
    if any(message.get(other) not in (None, "", reasoning) for other in REASONING):
        return message  # two texts, of which one would be lost
    return {k: v for k, v in message.items() if k not in REASONING} | {key: reasoning}


def reasoning_of(message: Message) -> str:
    """The reasoning that a message has in a field of its own."""
    return next((message[key] for key in REASONING if isinstance(message.get(key), str)), "")
