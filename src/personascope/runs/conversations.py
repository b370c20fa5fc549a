"""Which conversations an experiment has: those that it analyzes, and the references that they are held against."""

from typing import Any

from personascope.errors import UserError
from personascope.formats.conversations import find_conversations


def find_all(config: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """({name: path with path variables} of the conversations to be analyzed, the same of the reference conversations):
    the files of the folders that config names, and those that are simulated."""
    drift = config["drift"]
    parts: dict[str, dict[str, str]] = {}
    try:
        sources = {"simulations": drift["conversations"], "references": drift["references"]["conversations"]}
        for kind, files in sources.items():
            samples, folder = range(drift[kind]["samples"]), drift[kind]["folder"]
            found = {name: str(path) for name, path in find_conversations(files).items()}
            scripts = find_conversations([folder]) if samples else {}
            made = {f"{script}-{i}": f"<out>/{kind}/<model>/{script}-{i}.json" for script in scripts for i in samples}
            if both := sorted(found.keys() & made.keys()):
                raise UserError(f"{both[0]} is the name of a file and of a simulation; rename the file")
            parts[kind] = found | made
    except UserError as error:
        raise UserError(f"config, drift: {error}") from None
    analyzed, references = parts["simulations"], parts["references"]
    if both := sorted(analyzed.keys() & references.keys()):
        raise UserError(f"config, drift: {both[0]} is a conversation and a reference; a test needs others than itself")
    select = drift["references"]["select"]
    names = sorted(references) if select == "all" else _spread_over(sorted(references), select)
    return analyzed, {name: references[name] for name in names}


def _spread_over(names: list[str], n: int) -> list[str]:
    """n of the names, evenly spread."""
    if n > len(names):
        raise UserError(f"config, drift.references.select: {n}, but there are {len(names)} reference conversations")
    return [names[i * len(names) // n] for i in range(n)]
