"""The pretrained SAEs that SAELens knows, from the list in its package: which they are, and of which model.

Read without importing sae-lens, and so without torch: a wrong name is told when the configuration is read. The list is
a YAML file of 1.5 MB, of which only the release that is asked for is parsed.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from personascope.errors import UserError

LIST = "pretrained_saes.yaml"
SUGGESTED = 3
# How ids name the layer and the width: blocks.8.hook_resid_pre, layer_12/width_16k/canonical, l5r_8x, layer0.
LAYER = re.compile(r"(?:layers?|blocks|\bl)[._]?(\d+)")
WIDTH = re.compile(r"width[_-]?(\d+[km]?)")


@dataclass(frozen=True)
class Release:
    """A release of pretrained SAEs: the model that they were trained on, and their ids."""

    name: str
    model: str
    ids: tuple[str, ...]


def layer_of(sae_id: str) -> int | None:
    """The layer that the id of a pretrained SAE, or the name of a hook point, speaks of; None where it names none."""
    found = LAYER.search(sae_id)
    return int(found[1]) if found else None


@cache
def _sections() -> dict[str, str]:
    """{release: its part of the list}; empty where sae-lens is not installed, or keeps no such list."""
    package = find_spec("sae_lens")
    file = Path(package.origin).parent / LIST if package and package.origin else None
    if file is None or not file.is_file():
        return {}
    text = file.read_text(encoding="utf-8")
    heads = [*re.finditer(r"^([^\s#:][^:\n]*):[ \t]*$", text, re.MULTILINE)]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head[1].strip("'\""): text[head.start() : end] for head, end in zip(heads, ends, strict=True)}


@cache
def find_release(name: str) -> Release | None:
    """A release of the list; None where the list does not have it."""
    section = _sections().get(name)
    if section is None:
        return None
    import yaml

    (block,) = yaml.load(section, getattr(yaml, "CSafeLoader", yaml.SafeLoader)).values()
    return Release(name, str(block["model"]), tuple(str(sae["id"]) for sae in block["saes"]))


def check_pretrained(release: str, sae_id: str) -> None:
    """UserError where SAELens has no such release, or the release no such id; the nearest names are in it.

    What is not in the list but has the form of a repository of the hub is left to the job that loads it.
    """
    if not _sections() or ("/" in release and release not in _sections()):
        return
    found = find_release(release)
    if found is None:
        near = get_close_matches(release, _sections(), n=SUGGESTED, cutoff=0.5)
        known = f"; the nearest: {', '.join(near)}" if near else ""
        raise UserError(f"config, sae.release: SAELens has no release {release!r}{known}")
    if sae_id not in found.ids:
        near = sorted(found.ids, key=lambda one: _nearness(sae_id, one), reverse=True)[:SUGGESTED]
        there = f"the nearest: {', '.join(near)}{_elsewhere(found, sae_id)}"
        raise UserError(f"config, sae.id: {release} has no SAE {sae_id!r}; {there}")


def _nearness(asked: str, sae_id: str) -> tuple[bool, bool, float]:
    """How near an id is to the one asked for: the same layer first, then the same width, then the spelling."""
    same_width = WIDTH.findall(asked) == WIDTH.findall(sae_id)
    return layer_of(asked) == layer_of(sae_id), same_width, SequenceMatcher(None, asked, sae_id).ratio()


def _elsewhere(release: Release, sae_id: str) -> str:
    """Where else to look: the release of the same model, nearest in name, that has this id, or one of its layer where
    this release has none."""
    line = re.compile(rf"^ +model: {re.escape(release.model)}$", re.MULTILINE)
    others = [name for name, text in _sections().items() if line.search(text) and name != release.name]
    near = [
        one for name in get_close_matches(release.name, others, len(others) or 1, 0.0) if (one := find_release(name))
    ]
    if holder := next((one for one in near if sae_id in one.ids), None):
        return f"; the release {holder.name} has one of this id"
    layer = layer_of(sae_id)
    if layer is None or layer in map(layer_of, release.ids):
        return ""
    for one in near:
        if of_layer := [name for name in one.ids if layer_of(name) == layer]:
            best = max(of_layer, key=lambda name: _nearness(sae_id, name))
            return f"; of layer {layer} the release {one.name} has {best}"
    return ""
