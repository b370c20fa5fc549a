"""The command `chat`: the local model in conversation, what each of its tokens projects on directions, and steering."""

import argparse
import json
import os
import sys
from collections.abc import Container, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope.display.stream import LiveReply, PlainReply, color_depth
from personascope.errors import UserError
from personascope.formats.conversation_files import plain_name
from personascope.formats.files import write_json
from personascope.formats.traces import column_name
from personascope.runs.chat_sources import Sources, experiment_settings

if TYPE_CHECKING:
    from personascope.generation.chat import Chat, Read
    from personascope.models.projection import Probe

DEPTH = 0.65  # of the model: where directions are read, if no layer is named
HELP = """/steer axis:-0.1@15     add a direction at a layer, in units of the mean norm of the residual stream there
/cap axis:-5:40@12-15   keep the projection between two bounds, at a layer or some of them
/steer off              no steering and no caps
/new                    forget the conversation
/save FILE              save it, now and after each answer
/quit                   (or Ctrl-D); Ctrl-C ends an answer. A message that begins with / is sent as //..."""


def chat(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if arguments.save:
        plain_name(arguments.save)
    session = Session(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    if not arguments.json:
        session.tell(session.about)
    if not arguments.say and sys.stdin.isatty():
        _converse(session)
        return
    try:
        for text in arguments.say:
            session.say(text)
        for line in () if arguments.say else sys.stdin:
            session.take(line.rstrip("\n"))
    except _Quit:
        return
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _converse(session: "Session") -> None:
    """Read and answer until the end of the input; mistakes are told, and it goes on."""
    import readline  # noqa: F401 (line editing and history for input)

    session.tell("/help lists the commands.")
    while True:
        try:
            text = input("> ")
            session.take(text)
        except EOFError:
            session.tell("")
            return
        except _Quit:
            return
        except KeyboardInterrupt:
            session.tell("")
        except UserError as error:
            session.tell(f"error: {error}")


class _Quit(Exception):
    pass


class Session:
    """The chat, what is monitored, and where it is shown."""

    def __init__(self, arguments: argparse.Namespace):
        settings = {}
        if arguments.experiment or arguments.configfile or not arguments.model:
            settings = experiment_settings(arguments.experiment, arguments.configfile)
        self.sources = Sources(settings, arguments.directions)
        self.arguments, self.save = arguments, arguments.save
        self.steered: dict[int, list[str]] = {}  # by the index of an answer: how it was steered
        # Mistakes in what is asked for come before the model is loaded.
        directions = dict(self.sources.find(name.strip()) for name in arguments.monitor.split(",") if name.strip())
        self.words = _words(arguments)
        for word in self.words:
            self.sources.find(word.direction)
        self.chat, self.spec = _load(arguments, settings)
        if directions:
            known = self.sources.scale().get("columns", {})
            layers = arguments.layer or [_default_layer(self.chat.model, directions, known)]
            self.chat.probe = self._probe(directions, layers)
        self.columns = self.chat.probe.columns if self.chat.probe else []
        self.scale, self.zero = self._scale()
        self._steer()

    @property
    def about(self) -> str:
        """What is being looked at, in a line or two."""
        watched = f" {', '.join(self.columns)}: {self.zero}." if self.columns else ""
        steered = {column_name(word.direction, layer) for word in self.words for layer in word.layers}
        moved = [
            column
            for column in self.columns
            if column.removeprefix("trait:").removeprefix("role:") in steered or column in steered
        ]
        more = f" {', '.join(moved)} is steered where it is read: it moves by construction." if moved else ""
        return f"{Path(self.spec.id).name}.{watched}{more}"

    def tell(self, text: str) -> None:
        """Say something that is no part of the conversation."""
        print(text, file=sys.stderr, flush=True)

    def take(self, text: str) -> None:
        """A line that was typed: a command, or a message."""
        name, _, rest = text.strip().partition(" ")
        if not name:
            return
        if not name.startswith("/") or name.startswith("//"):
            self.say(text.strip().removeprefix("/") if name.startswith("//") else text)
        elif name in ("/quit", "/exit"):
            raise _Quit
        elif name == "/new":
            self.chat.restart()
            self.steered.clear()
        elif name == "/save":
            plain_name(rest.strip())
            self.save = rest.strip()
            self._write()
        elif name in ("/steer", "/cap"):
            self._command(name.removeprefix("/"), rest)
        else:
            if name != "/help":
                raise UserError(f"{name} is no command; /help lists them")
            self.tell(HELP)

    def _command(self, kind: str, text: str) -> None:
        from personascope.generation.steering_words import steering_word

        before = self.words
        if text.strip():
            self.words = [] if text.strip() == "off" else [*self.words, steering_word(kind, text)]
            try:
                self._steer()
            except UserError:
                self.words = before
                raise
        self.tell("\n".join(f"{word.kind} {word.text}" for word in self.words) or "no steering")

    def say(self, text: str) -> None:
        """Send a message and show the answer; what was said by the time of Ctrl-C is kept."""
        reply = None
        if not self.arguments.json:
            depth = color_depth(sys.stdout)
            live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
            reply = LiveReply(sys.stdout, self.columns, depth) if live else PlainReply(sys.stdout, self.columns)
        turn = sum(message["role"] == "user" for message in self.chat.messages)
        try:
            with closing(self.chat.say(text)) as reads:
                for read in reads:
                    if reply is None:
                        self._print(turn, read)
                    elif read.generated:
                        reply.token(read.text, self._units(read))
        except KeyboardInterrupt:
            if self.arguments.say or not sys.stdin.isatty():
                raise
        finally:
            if reply is not None:
                reply.end()
            self.steered[len(self.chat.messages) - 1] = [f"{word.kind} {word.text}" for word in self.words]
            self._write()
        self._counts()

    def _print(self, turn: int, read: "Read") -> None:
        row = {"turn": turn} | asdict(read)
        row["projections"] = dict(zip(self.columns, read.projections, strict=True))
        print(json.dumps(row, ensure_ascii=False), flush=True)

    def _units(self, read: "Read") -> list[float]:
        scales = (self.scale[column] for column in self.columns)
        return [(value - s["mean"]) / s["sd"] for value, s in zip(read.projections, scales, strict=True)]

    def _counts(self) -> None:
        """How many of the tokens read so far the caps have changed."""
        for one, count in zip(self.interventions, self.chat.steering.counts, strict=True):
            if hasattr(one, "low") and count.seen:
                self.tell(f"cap at layer {one.layer}: {count.changed / count.seen:.0%} of {count.seen:,} tokens")

    def _write(self) -> None:
        if self.save and any(message["role"] == "assistant" for message in self.chat.messages):
            options = self.chat.options
            how = {"model": self.spec.id, "seed": options.seed, "max_tokens": options.max_tokens}
            how |= asdict(options.sampling) | {"monitor": self.columns}
            # Steering may change from answer to answer; what reads conversations leaves this key of a message alone.
            said = [
                message | ({"steering": self.steered[i]} if self.steered.get(i) else {})
                for i, message in enumerate(self.chat.messages)
            ]
            write_json(self.save, how | {"conversation": said})

    # ---- directions -------------------------------------------------------------------------------------------------

    def _probe(self, directions: dict[str, Any], layers: Sequence[int]) -> "Probe":
        from personascope.models.projection import make_probe

        return make_probe(self.chat.model, self.spec.id, directions, layers)

    def _scale(self) -> tuple[dict[str, dict[str, float]], str]:
        """({column: mean and sd}, what zero is): of the experiment's reference conversations, else of plain text."""
        known = self.sources.scale()
        if all(column in known.get("columns", {}) for column in self.columns):
            if not self.columns:
                return {}, ""
            of = f"assistant tokens of {known['conversations']} reference conversations"
            return known["columns"], f"zero is the mean over {known['tokens']:,} {of}"
        from personascope.generation.plain import plain_scale

        plain = plain_scale(self.chat.model, self.chat.tokenizer, self.chat.probe)  # type: ignore[arg-type]
        return plain["columns"], f"zero is the mean over {plain['tokens']} tokens of a few plain answers"

    def _steer(self) -> None:
        """Steer as the words say."""
        probes: dict[tuple[str, int], Any] = {}

        def probe(name: str, layer: int) -> Any:
            if (name, layer) not in probes:
                full, found = self.sources.find(name)
                probes[name, layer] = self._probe({full: found}, [layer])
            return probes[name, layer]

        norms = {} if self.arguments.steer_units == "raw" else self.sources.scale().get("norms", {})
        self.interventions = []
        for word in self.words:

            def size(layer: int, name: str = word.direction) -> float:
                if self.arguments.steer_units == "raw":
                    return 1.0
                if str(layer) not in norms:
                    from personascope.generation.plain import plain_scale

                    norms.update(plain_scale(self.chat.model, self.chat.tokenizer, probe(name, layer))["norms"])
                return norms[str(layer)]

            self.interventions += word.interventions(lambda name, layer: probe(name, layer).units[layer][0], size)
        self.chat.steer(self.interventions)


def _words(arguments: argparse.Namespace) -> list[Any]:
    if not arguments.steer and not arguments.cap:
        return []
    from personascope.generation.steering_words import steering_word

    given = (("steer", arguments.steer), ("cap", arguments.cap))
    return [steering_word(kind, text) for kind, texts in given for text in texts]


def _default_layer(model: Any, directions: dict[str, Any], scaled: Container[str]) -> int:
    """Of the layers at which all directions are known, the one nearest to DEPTH of the model; one whose columns are in
    the experiment's scale, if there is any."""
    from personascope.models.hookpoints import decoder_layers
    from personascope.models.projection import common_layers

    wanted = int(len(decoder_layers(model)) * DEPTH + 0.5)
    known = common_layers(directions)
    with_scale = [layer for layer in known if all(column_name(name, layer) in scaled for name in directions)]
    return min(with_scale or known, key=lambda layer: (abs(layer - wanted), layer))


def _load(arguments: argparse.Namespace, settings: dict[str, Any]) -> "tuple[Chat, Any]":
    """The model in a chat, and what it is."""
    from personascope.backends import Sampling
    from personascope.generation.chat import Chat, ChatOptions
    from personascope.models.loading import ModelSpec, context_length, load_model, load_tokenizer, stop_ids

    block = {} if arguments.model else dict(settings["model_spec"])
    given = {"id": arguments.model, "dtype": arguments.dtype, "device": arguments.device}
    spec = ModelSpec(**(block | {key: value for key, value in given.items() if value is not None}))
    model, tokenizer = load_model(spec), load_tokenizer(spec)
    sampling = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 512} | settings.get("sampling", {})
    sampling |= {key: value for key in sampling if (value := getattr(arguments, key)) is not None}
    options = ChatOptions(
        Sampling(sampling["temperature"], sampling["top_p"]),
        arguments.seed,
        sampling["max_tokens"],
        context_length(model),
    )
    return Chat(model, tokenizer, stop_ids(spec, tokenizer), options, system=arguments.system), spec
