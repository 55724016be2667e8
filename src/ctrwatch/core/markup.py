"""
HTML that is safe by the way it is made: text is escaped unless it is Markup. Pure.

Strangers choose images' names and containers' labels. So text goes through `core.text.clean`
first: no control character, no mark of the reading direction and no line end is left in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from ctrwatch.core.text import clean

__all__ = ("Markup", "joined", "tag", "trusted")

_LONGEST: Final = 400  # characters of one text: an image's name has at most 255 and its host
_EMPTY: Final = frozenset({"br", "meta", "line"})


class Markup(str):
    """Is HTML already."""

    __slots__ = ()


def trusted(html: str) -> Markup:
    """Our own words alone."""
    return Markup(html)


def joined(parts: Iterable[str], between: str = "") -> Markup:
    return Markup(_safe(between).join(map(_safe, parts)))


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """
    An element. An attribute's "_" is a hyphen, and one at its end is dropped (`class_`).

    >>> tag("a", "<b>", trusted("<br>"), href="#x", data_label='"')
    '<a href="#x" data-label="&quot;">&lt;b&gt;<br></a>'
    >>> tag("line", x1=1.5, x2=None)
    '<line x1="1.5"/>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_safe(value if isinstance(value, str) else str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def _safe(text: str) -> str:
    return text if isinstance(text, Markup) else escape(clean(text, _LONGEST))
