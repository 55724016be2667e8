"""
Bars and strips as inline SVG, coloured by the page's own style. Pure.

A drawing is stretched to its column, so no text is in it: what a bar means is its <title>, and
the axis stands below it as HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ctrwatch.core.markup import Markup, tag

__all__ = ("bars", "strip")

_WIDE, _HIGH, _GAP = 960.0, 120.0, 0.15
_FAINT: Final = 3.0  # the least that a piece is wide or high: one of a million is seen


def bars(label: str, steps: Sequence[str], stacks: Mapping[str, Sequence[int]]) -> Markup:
    """
    Stacked bars. *steps*: what each is called; *stacks*: class of the style: height of each.

    The first of *stacks* is at the bottom.
    """
    totals = [sum(stack[step] for stack in stacks.values()) for step in range(len(steps))]
    highest = max(totals, default=0) or 1
    width = _WIDE / max(len(steps), 1)
    pieces = []
    for step, when in enumerate(steps):
        bottom = _HIGH
        for name, stack in stacks.items():
            if not stack[step]:
                continue
            height = max(stack[step] / highest * (_HIGH - _FAINT * len(stacks)), _FAINT)
            bottom -= height
            pieces.append(
                tag(
                    "rect",
                    tag("title", f"{when}: {stack[step]:,} {name}"),
                    x=round((step + _GAP / 2) * width, 2),
                    y=round(bottom, 2),
                    width=round(width * (1 - _GAP), 2),
                    height=round(height, 2),
                    class_=f"fill-{name}",
                )
            )
    base = tag("line", x1=0, y1=_HIGH, x2=_WIDE, y2=_HIGH, class_="axis")
    return _svg("bars", label, [*pieces, base], _HIGH)


def strip(label: str, pieces: Iterable[tuple[float, float, str, str]]) -> Markup:
    """A line of time. *pieces*: from, to (0 to 1), class of the style, title; later ones above."""
    found = [
        tag(
            "rect",
            tag("title", title),
            x=round(min(begin * _WIDE, _WIDE - _FAINT), 2),
            y=0,
            width=round(max((end - begin) * _WIDE, _FAINT), 2),
            height=24,
            class_=f"fill-{name}",
        )
        for begin, end, name, title in pieces
    ]
    return _svg("strip", label, found, 24)


def _svg(name: str, label: str, children: Iterable[Markup], height: float) -> Markup:
    return tag(
        "svg",
        *children,
        class_=name,
        viewBox=f"0 0 {_WIDE:g} {height:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )
