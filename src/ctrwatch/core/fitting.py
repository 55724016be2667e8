"""
Text into the cells of a terminal. Pure.

A character takes no cell, one or two: `rich.cells` knows, by Unicode's tables. What strangers
wrote is made harmless first (core/text.py): what is left there of no width are the marks that
some scripts put on a letter, and of those only a few are kept, for a hundred on one letter
are drawn over the lines above it.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from rich.cells import cell_len, get_character_cell_size, set_cell_size

from ctrwatch.core.text import ELLIPSIS, clean

__all__ = ("cell_len", "fitted", "harmless")

_MARKS: Final = 2  # on one letter: Vietnamese and Hebrew have as many


def harmless(text: str, limit: int) -> str:
    r"""
    As `clean`, and letters have at most two marks.

    >>> harmless("web\x1b[2J", 40), harmless("a" + "\u0301" * 9, 40) == "a\u0301\u0301"
    ('web\\x1b[2J', True)
    """
    shown = clean(text, limit)
    if shown.isascii():
        return shown
    out, marks = [], 0
    for character in shown:
        marks = marks + 1 if _is_mark(character) else 0
        if marks <= _MARKS:
            out.append(character)
    return "".join(out)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me") or not get_character_cell_size(character)


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """
    *text*, harmless already, in exactly *width* cells.

    >>> fitted("web", 6), fitted("12", 4, right=True), fitted("a-long-name", 6)
    ('web   ', '  12', 'a-lon…')
    >>> fitted("日本語", 5)
    '日本…'
    """
    if (length := cell_len(text)) <= width:
        space = " " * (width - length)
        return space + text if right else text + space
    if width < 1:
        return ""
    return set_cell_size(_head(text, width - 1) + ELLIPSIS, width)


def _head(text: str, width: int) -> str:
    """As many characters as fit."""
    used = 0
    for at, character in enumerate(text):
        used += get_character_cell_size(character)
        if used > width:
            return text[:at]
    return text
