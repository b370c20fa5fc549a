"""How many tokens an experiment's texts have: counted with the model's tokenizer, on a sample where there are many."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.formats.conversations import read_conversation, read_simulation, simulation_user_turns
from personascope.formats.roles import build_prompts, questions_for, read_questions, read_role, select_questions
from personascope.formats.traits import read_trait, trait_prompts
from personascope.runs.measured import spread

SAMPLE = 2000  # prompts counted
CONVERSATIONS = 100  # conversations counted
CHARACTERS_A_TOKEN = 4.0
Messages = Sequence[dict[str, Any]]


class TokenCounter:
    """Counts tokens; without the tokenizer it goes by characters, and `source` says so."""

    def __init__(self, model: dict[str, Any]):
        self.tokenizer: Any = None
        self.context: int | None = None
        self.d_model: int | None = None
        try:
            from transformers import AutoConfig

            from personascope.models.hub import cache_where_silent
            from personascope.models.loading import ModelSpec, context_length, load_tokenizer

            keys = ("id", "revision", "trust_remote_code", "template")
            spec = ModelSpec(**{key: model[key] for key in keys if key in model})
            self.tokenizer = load_tokenizer(spec)
            with cache_where_silent():
                config = AutoConfig.from_pretrained(
                    spec.id, revision=spec.revision, trust_remote_code=spec.trust_remote_code
                )
            self.context, self.d_model = context_length(config), config.get_text_config().hidden_size
            self.source = "counted"
        except (UserError, ImportError, OSError, ValueError) as error:
            reason = "transformers is not installed" if isinstance(error, ImportError) else "no tokenizer yet"
            self.source = f"estimate: {CHARACTERS_A_TOKEN:.0f} characters a token ({reason})"

    def prompt(self, messages: Messages) -> float:
        """Tokens up to where the answer begins."""
        if self.tokenizer is None:
            return _characters(messages)
        from personascope.models.spans import prompt_ids

        return len(prompt_ids(self.tokenizer, messages))

    def conversation(self, messages: Messages) -> float:
        """Tokens of a whole conversation, at most the model's context."""
        if self.tokenizer is None:
            return _characters(messages)
        from personascope.models.spans import encode_conversation

        return min(len(encode_conversation(self.tokenizer, messages).ids), self.context or 2**62)

    def closing(self) -> float:
        """Tokens that the chat template writes behind an answer."""
        question = {"role": "user", "content": "Who are you?"}
        return self.conversation([question, {"role": "assistant", "content": ""}]) - self.prompt([question])


def _characters(messages: Messages) -> float:
    return sum(len(message["content"] or "") / CHARACTERS_A_TOKEN + 4 for message in messages)


@dataclass(frozen=True)
class RolePrompts:
    """Prompts of a role, and their mean tokens."""

    n: int
    mean: float


def count_prompts(counter: TokenCounter, settings: dict[str, Any]) -> tuple[dict[str, RolePrompts], str]:
    """{role: prompts}, and how they were counted."""
    config = settings["config"]
    shared = select_questions(read_questions(config["questions"]["file"]), config["questions"]["select"])
    counted: dict[str, RolePrompts] = {}
    sampled = total = 0
    for name in settings["roles"]:
        role = read_role(Path(config["roles"]["folder"]) / f"{name}.json")
        questions = questions_for(role, settings["mode"], shared)
        prompts = build_prompts(role, config["generation"]["variants"], questions, settings["model"])
        some = spread(len(prompts), max(SAMPLE // len(settings["roles"]), 4))
        counted[name] = RolePrompts(len(prompts), sum(counter.prompt(prompts[i].messages) for i in some) / len(some))
        sampled, total = sampled + len(some), total + len(prompts)
    return counted, f"{counter.source}, {sampled:,} of {total:,} prompts"


def count_traits(counter: TokenCounter, block: dict[str, Any], names: Sequence[str]) -> dict[str, RolePrompts]:
    """{trait: its prompts}; block: that of config."""
    counted: dict[str, RolePrompts] = {}
    asked = [block[key] for key in ("pairs", "questions", "evaluation_questions", "samples")]
    for name in names:
        prompts = trait_prompts(read_trait(Path(block["folder"]) / f"{name}.json"), *asked)
        some = spread(len(prompts), max(SAMPLE // len(names), 4))
        counted[name] = RolePrompts(len(prompts), sum(counter.prompt(prompts[i].messages) for i in some) / len(some))
    return counted


@dataclass(frozen=True)
class Script:
    """Tokens of one sample of a simulation: prompts (each turn sends what was said before), answers, the whole."""

    prompt: float
    output: float
    whole: float


def count_script(counter: TokenCounter, path: Path, answer: float) -> Script:
    """A scripted user's conversation with answers of so many tokens."""
    script = read_simulation(path)
    messages = [{"role": "system", "content": script.system}] if script.system else []
    prompt = output = 0.0
    for text in simulation_user_turns(script):
        messages.append({"role": "user", "content": text})
        prompt, output = prompt + counter.prompt(messages) + output, output + answer
        messages.append({"role": "assistant", "content": ""})
    return Script(prompt, output, counter.conversation(messages) + output)


def count_conversations(counter: TokenCounter, places: Sequence[tuple[Path, int | None]]) -> float:
    """Tokens of conversations, each a file or a line of one, from a sample where there are many; a malformed one has
    none."""
    some = spread(len(places), CONVERSATIONS)
    return sum(_count_each(counter, (places[i] for i in some))) * len(places) / max(len(some), 1)


def _count_each(counter: TokenCounter, places: Iterable[tuple[Path, int | None]]) -> list[float]:
    found = []
    for path, line in places:
        try:
            found.append(counter.conversation(read_conversation(path, line).messages))
        except UserError:
            found.append(0.0)
    return found
