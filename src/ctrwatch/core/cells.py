"""
Cells of a CSV file that a spreadsheet may open. Pure.

A cell that begins with one of ``= + - @``, a tab or a carriage return is a formula to a
spreadsheet, and whoever starts a container chooses its name. Such a cell gets a quotation mark
before it, as OWASP says ("CSV Injection"), and what can't be seen is shown as an escape.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ctrwatch.core.text import clean

__all__ = ("cell", "row")

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_CELL_MAX: Final = 4096  # characters; a spreadsheet's own limit is 32,767


def cell(value: object) -> str:
    r"""
    One cell, in quotation marks where CSV (RFC 4180) asks for them.

    >>> cell('=HYPERLINK("http://x")')
    '"\'=HYPERLINK(""http://x"")"'
    >>> cell("a,b"), cell(None), cell("-1"), cell(-1)
    ('"a,b"', '', "'-1", '-1')
    """
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    shown = clean(text, _CELL_MAX)
    # A blank before it does not help a spreadsheet that trims, so the first that is none counts.
    if text.startswith(_FORMULA) or shown.lstrip(" ").startswith(_FORMULA):
        shown = "'" + shown
    if any(character in shown for character in ',"'):
        return '"' + shown.replace('"', '""') + '"'
    return shown


def row(values: Iterable[object]) -> str:
    """A line of CSV, with its end."""
    return ",".join(map(cell, values)) + "\r\n"
