"""Fonts that have what is to be drawn: Noto and the like, where they are installed, behind matplotlib's own.

Nothing is looked up before a text has a character that matplotlib's font lacks.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font, LoadFlags

FALLBACKS = re.compile(r"(Noto(Sans|Serif|Emoji|Naskh|Music)|unifont|Symbola|DroidSansFallback|wqy)", re.IGNORECASE)
OTHER_STYLE = re.compile(r"(Bold|Light|Thin|Black|Medium|Condensed|Italic|DemiLight|UI-|Mono|Display)", re.IGNORECASE)
FIRST = ("NotoSansCJK", "NotoSans", "NotoEmoji", "NotoSerif")
SHOWN_CODES = 4  # of the missing characters of one script
SIZE = 100  # points at which advances are measured


@functools.cache
def glyphs(path: str) -> frozenset[int]:
    """The code points of a font file; none where it cannot be read (bitmap emoji)."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


@functools.cache
def _base(family: str | None) -> str:
    return findfont(FontProperties(family=family and [family]))


@functools.cache
def _installed() -> tuple[str, ...]:
    """Files of fonts with many scripts, the preferred ones first; the order is the same on every run."""
    found = [path for path in findSystemFonts() if FALLBACKS.match(Path(path).name)]
    plain = [path for path in found if not OTHER_STYLE.search(Path(path).stem)]

    def key(path: str) -> tuple[int, str]:
        place = next((i for i, name in enumerate(FIRST) if Path(path).name.startswith(name)), len(FIRST))
        return place, path

    return tuple(sorted(plain, key=key))


@functools.cache
def _font_of(character: str, family: str | None) -> str | None:
    """The file that draws a character: that of the family, else the first installed one that has it."""
    files = (_base(family), *_installed()) if ord(character) not in glyphs(_base(family)) else (_base(family),)
    return next((path for path in files if ord(character) in glyphs(path)), None)


def can_draw(character: str, family: str | None = None) -> bool:
    """Whether any font has the character."""
    return _font_of(character, family) is not None


@functools.cache
def _registered(path: str) -> str:
    """The family of a font file, known to matplotlib, whose list may be older than the font."""
    if all(Path(entry.fname) != Path(path) for entry in fontManager.ttflist):
        fontManager.addfont(path)
    return FT2Font(path).family_name


def further_families(text: str, family: str | None = None) -> list[str]:
    """The families that a text needs behind its own."""
    files = {_font_of(character, family) for character in set(text) if character.isprintable()} - {None, _base(family)}
    return [_registered(path) for path in sorted(str(path) for path in files)]


@functools.cache
def _advance(character: str, family: str | None) -> float:
    path = _font_of(character, family)
    if path is None:
        return 0.0
    font = FT2Font(path)
    font.set_size(SIZE, 72)
    return font.load_char(ord(character), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / SIZE


def columns(text: str, family: str = "monospace") -> float:
    """The width of a text in characters of a monospaced font; those of other fonts may be wider."""
    return sum(_advance(character, family) for character in text) / _advance("0", family)


def missing_note(texts: Iterable[str], family: str | None = None) -> str:
    """A sentence that names the characters that no installed font has, by script; empty where there is none."""
    scripts: dict[str, set[str]] = {}
    for character in sorted(set("".join(texts))):
        if character.isprintable() and not can_draw(character, family):
            scripts.setdefault(_script(character), set()).add(character)
    parts = []
    for script, characters in sorted(scripts.items()):
        codes = [f"U+{ord(character):04X}" for character in sorted(characters)]
        more = ", \u2026" if len(codes) > SHOWN_CODES else ""
        parts.append(f"{len(codes)} {script} ({', '.join(codes[:SHOWN_CODES])}{more})")
    return f"\u25a1: no installed font has {'; '.join(parts)}" if parts else ""


def _script(character: str) -> str:
    """The script of a letter by its Unicode name; other characters are symbols."""
    if unicodedata.category(character)[0] not in "LM":
        return "symbols"
    return unicodedata.name(character, "unnamed").split()[0].split("-")[0].capitalize().replace("Cjk", "CJK")
