"""Text and colors fit to show: tokenizer pieces become characters, what cannot be seen becomes visible,
and a signed value becomes one of 21 steps between orange (away from the assistant) and blue (toward it).

Texts come from models and from users, so nothing here trusts them: pages take them through `escaped` only.
"""

import codecs
import re
from collections.abc import Sequence

# Controls but tab and newline, marks that reorder or hide text, lone surrogates, non-characters, invisible tags.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
_BYTE_PIECE = re.compile("<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """The characters in which byte-level BPE spells bytes: printable ones as they are, the others from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_ALPHABET = _byte_alphabet()


def is_byte_level(tokens: Sequence[str]) -> bool:
    """Whether pieces are spelled in the byte alphabet (GPT-2, Llama 3, Qwen) and not by SentencePiece (Gemma, Llama 2).

    Decided by how they mark spaces and line ends; without any, by whether their bytes are UTF-8 beyond ASCII.
    """
    byte_marks = sum("\u0120" in piece or "\u010a" in piece for piece in tokens)
    other_marks = sum("\u2581" in piece or piece.isspace() for piece in tokens)
    if byte_marks or other_marks:
        return byte_marks > other_marks
    text = "".join(tokens)
    if text.isascii() or not set(text) <= _ALPHABET.keys():
        return False
    try:
        bytes(_ALPHABET[character] for character in text).decode()
    except UnicodeDecodeError:
        return False
    return True


def _piece_bytes(piece: str, byte_level: bool) -> bytes | None:
    """The bytes that a piece stands for, or None where it is text already."""
    if byte_level:
        known = [_ALPHABET.get(character) for character in piece]
        return None if None in known else bytes(byte for byte in known if byte is not None)
    match = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else None


def whole_characters(tokens: Sequence[str], byte_level: bool | None = None) -> list[tuple[str, list[int]]]:
    """The text of tokenizer pieces in runs of whole characters: (text, indices of its pieces), in order.

    A piece is a run by itself, unless it holds only a part of a character's bytes: then it is together with those that
    complete it. Bytes that are no UTF-8 show U+FFFD. byte_level: None decides by the pieces.
    """
    byte_level = is_byte_level(tokens) if byte_level is None else byte_level
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    runs: list[tuple[str, list[int]]] = []
    text, pieces = "", []
    for index, piece in enumerate(tokens):
        data = _piece_bytes(piece, byte_level)
        if data is None:
            if pieces:
                runs.append((text + decoder.decode(b"", final=True), pieces))
                decoder.reset()
            runs.append((piece if byte_level else piece.replace("\u2581", " "), [index]))
            text, pieces = "", []
            continue
        text += decoder.decode(data)
        pieces.append(index)
        if not decoder.getstate()[0]:
            runs.append((text, pieces))
            text, pieces = "", []
    return [*runs, (text + decoder.decode(b"", final=True), pieces)] if pieces else runs


def visible(text: str) -> str:
    """The text with a visible sign for each control, reordering or hidden character; tab and newline stay."""
    return HIDDEN.sub(lambda match: _sign(ord(match[0])), text)


def _sign(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code in (0xFFFE, 0xFFFF):
        return "\ufffd"  # cannot be written as UTF-8, or must not stand in HTML
    return f"\u27e8U+{code:04X}\u27e9"
