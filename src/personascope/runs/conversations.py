"""Which conversations an experiment has: those that it analyzes, and the references that they are held against.

All files are read where the rules are read, so that one that can't be read is told before anything is computed. Its
jobs only pass the reason on, and no figures are asked for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from personascope.errors import UserError
from personascope.formats.conversation_files import Found, find_conversations, find_scripts, not_analyzed

VARIABLE = re.compile("<.*>|{.*}")  # in a path, to Snakemake


@dataclass(frozen=True)
class Conversations:
    """analyzed, references: {name: path with path variables}; places: {name: {"line", "title"}} of those that stand in
    JSON lines or are not called as their file; unread: {name: reason} of the analyzed ones that can't be read; notes:
    what else to say, in lines."""

    analyzed: dict[str, str]
    references: dict[str, str]
    places: dict[str, dict[str, Any]]
    unread: dict[str, str]
    notes: list[str]


def find_all(config: dict[str, Any]) -> Conversations:
    """The files of the folders that config names, and those that are simulated."""
    drift = config["drift"]
    parts: dict[str, dict[str, str]] = {}
    places: dict[str, dict[str, Any]] = {}
    unread: dict[str, dict[str, str]] = {}
    notes = []
    sources = {"simulations": drift["conversations"], "references": drift["references"]["conversations"]}
    keys = {"simulations": "drift.conversations", "references": "drift.references.conversations"}
    for kind, files in sources.items():
        try:
            found = find_conversations(files)
            if odd := [place.path for place in found.places.values() if VARIABLE.search(str(place.path))]:
                raise UserError(
                    f"{odd[0]}: rename it; Snakemake reads what is between < and >, or braces, as a variable"
                )
            parts[kind] = {name: str(place.path) for name, place in found.places.items()} | _simulated(drift, kind)
        except UserError as error:
            raise UserError(f"config, drift: {error}") from None
        if both := sorted(found.places.keys() & _simulated(drift, kind).keys()):
            raise UserError(f"config, drift: {both[0]} is the name of a file and of a simulation; rename the file")
        places |= _places(found)
        unread[kind] = found.unread
        notes += [f"config, {keys[kind]}: {note}" for note in found.notes]
        if lost := not_analyzed(found.unread, len(found.places), "can't be read"):
            notes.append(f"config, {keys[kind]}: {lost}")
    analyzed, references = parts["simulations"], parts["references"]
    if both := sorted(analyzed.keys() & references.keys()):
        raise UserError(f"config, drift: {both[0]} is a conversation and a reference; a test needs others than itself")
    select = drift["references"]["select"]
    names = sorted(references) if select == "all" else _spread_over(sorted(references), select)
    return Conversations(analyzed, {name: references[name] for name in names}, places, unread["simulations"], notes)


def _simulated(drift: Mapping[str, Any], kind: str) -> dict[str, str]:
    samples = range(drift[kind]["samples"])
    scripts = find_scripts(drift[kind]["folder"]) if samples else {}
    return {f"{script}-{i}": f"<out>/{kind}/<model>/{script}-{i}.json" for script in scripts for i in samples}


def _places(found: Found) -> dict[str, dict[str, Any]]:
    places = {name: {"line": place.line, "title": place.title} for name, place in found.places.items()}
    return {name: place for name, place in places.items() if any(value is not None for value in place.values())}


def _spread_over(names: list[str], n: int) -> list[str]:
    """n of the names, evenly spread."""
    if n > len(names):
        raise UserError(f"config, drift.references.select: {n}, but there are {len(names)} reference conversations")
    return [names[i * len(names) // n] for i in range(n)]
