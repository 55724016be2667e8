"""
Strangers' text made safe: for a terminal, for JSON.

Pure: text in, text out. Whoever starts a container chooses its name, its labels,
its image's name and its cgroup's, and none of them may move a cursor, hide a line,
turn the reading direction or break the encoder.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ("clean", "escaped", "jsonable", "short_id")

ELLIPSIS: Final = "…"
_SHORT_ID: Final = 12  # as docker and podman show it
_GENERATED: Final = re.compile(r"[0-9a-f]{64}")

_PLAIN: Final = re.compile(r"[ -~]*")
_BEYOND: Final = re.compile("[\x7f-\U0010ffff]")
# What the kernel's bytes become when they are no UTF-8 (surrogateescape), and the rest
# of the surrogates, which no encoder takes.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED_BYTES: Final = range(0xDC80, 0xDD00)
# Printable for Python, yet they draw nothing: a name made of them looks empty.
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5") | {
    chr(code) for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x1810))
}


def clean(text: str, limit: int) -> str:
    r"""
    Return *text* as one printable line of at most *limit* characters (1 or more).

    Control characters, escape sequences, marks of the reading direction, characters
    without width, line ends and bytes that are no UTF-8 become visible escapes; what
    is too long ends in an ellipsis, never in half an escape.

    >>> clean("web\x1b[2J", 40)
    'web\\x1b[2J'
    >>> clean("\u202egpj.exe", 40)
    '\\u202egpj.exe'
    >>> clean("a-very-long-name", 8)
    'a-very-…'
    """
    if len(text) <= limit and _PLAIN.fullmatch(text):
        return text
    out: list[str] = []
    size = 0
    fits = 0  # how many pieces leave room for the ellipsis
    for character in text[: limit + 1]:
        piece = character if _is_visible(character) else _escape(character)
        size += len(piece)
        if size > limit:
            return "".join(out[:fits]) + ELLIPSIS
        out.append(piece)
        if size <= limit - len(ELLIPSIS):
            fits = len(out)
    return "".join(out)


def jsonable(text: str) -> str:
    r"""
    Return *text* so that UTF-8 can encode it: bytes that were none are written ``\xNN``.

    >>> jsonable(b"caf\xe9".decode("utf-8", "surrogateescape"))
    'caf\\xe9'
    >>> jsonable("café")
    'café'
    """
    return text if text.isascii() else _SURROGATE.sub(lambda found: _escape(found[0]), text)


def escaped(line: bytes) -> bytes:
    r"""
    Return a line of JSON that means the same, for a terminal: what can't be seen is escaped.

    JSON's own writers escape C0 only, and leave DEL, C1 and marks of the reading direction.

    >>> escaped('{"name":"\u202egpj.é"}\n'.encode()) == '{"name":"\\u202egpj.é"}\n'.encode()
    True
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return _BEYOND.sub(lambda found: _in_json(found[0]), line.decode()).encode()


def _in_json(character: str) -> str:
    if _is_visible(character):
        return character
    units = character.encode("utf-16-be")  # beyond 16 bits two of them, as JSON writes it
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _is_visible(character: str) -> bool:
    # isprintable() is false for the categories Other and Separator except the space:
    # C0, C1, DEL, bidi marks, zero width, line and paragraph separators, surrogates.
    return character.isprintable() and character not in _BLANK


def _escape(character: str) -> str:
    code = ord(character)
    if code in _ESCAPED_BYTES:
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def short_id(container_id: str) -> str:
    """A generated id's first 12 digits; a name that somebody chose, whole."""
    return (
        container_id[:_SHORT_ID] if _GENERATED.fullmatch(container_id) else clean(container_id, 40)
    )
