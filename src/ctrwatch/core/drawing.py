"""
Bars, levels and strips as inline SVG, coloured by the page's own style. Pure.

A drawing is stretched to its column, so no text is in it: what a bar means is its <title>, and
the axis stands below it as HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ctrwatch.core.markup import Markup, tag, trusted

__all__ = ("Line", "Mark", "bars", "levels", "strip")

_WIDE, _HIGH, _GAP = 960.0, 120.0, 0.15
_TICK = 16.0
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


class Line(NamedTuple):
    """*heights*: of each step, 0 to 1; None: nothing is known, and nothing is drawn."""

    name: str  # class of the style
    heights: Sequence[float | None]


class Mark(NamedTuple):
    at: float  # 0 to 1
    title: str


def levels(
    label: str,
    titles: Sequence[str],
    *,
    area: Line,
    lines: Sequence[Line],
    births: Sequence[int],
    marks: Iterable[Mark],
    holes: Iterable[tuple[float, float, str]],
) -> Markup:
    """
    What was used, step by step: one *area*, *lines* over it, and below a tick for each step with
    births, the higher the more of them. *marks* go all through; *holes*: from, to, title.
    """
    width = _WIDE / max(len(titles), 1)
    found = []
    for begin, end, title in holes:
        x, wide = min(begin * _WIDE, _WIDE - _FAINT), max((end - begin) * _WIDE, _FAINT)
        found.append(_rect((x, 0, wide, _HIGH), "gap", title))
    most = max(births, default=0) or 1
    for step, title in enumerate(titles):
        height, x = area.heights[step], step * width
        if height is not None:
            high = max(min(height, 1.0) * _HIGH, 1.0)
            found.append(_rect((x, _HIGH - high, width, high), f"fill-{area.name}", title))
        if births[step]:
            high = max(births[step] / most * _TICK, _FAINT)
            place = (x, _HIGH + _TICK - high, max(width, _FAINT), high)
            found.append(_rect(place, "fill-births", title))
    found += [_path(line, width) for line in lines]
    for mark in marks:
        x = round(min(max(mark.at, 0.0), 1.0) * _WIDE, 2)
        found.append(tag("path", tag("title", mark.title), d=f"M{x:g} 0V{_HIGH:g}", class_="mark"))
    found.append(tag("line", x1=0, y1=_HIGH, x2=_WIDE, y2=_HIGH, class_="axis"))
    return _svg("levels", label, found, _HIGH + _TICK)


def _path(line: Line, width: float) -> Markup:
    """A step of it for each that is known; a gap is a gap."""
    pieces, drawn = [], False
    for step, height in enumerate(line.heights):
        if height is None:
            drawn = False
            continue
        y = round(_HIGH - min(max(height, 0.0), 1.0) * (_HIGH - 2) - 1, 2)
        begin, end = round(step * width, 2), round((step + 1) * width, 2)
        pieces.append(f"V{y:g}H{end:g}" if drawn else f"M{begin:g} {y:g}H{end:g}")
        drawn = True
    return tag("path", d=trusted("".join(pieces)), class_=f"line line-{line.name}")


def _rect(place: tuple[float, float, float, float], name: str, title: str) -> Markup:
    """*place*: x, y, width, height."""
    x, y, width, height = (round(each, 2) for each in place)
    return tag("rect", tag("title", title), x=x, y=y, width=width, height=height, class_=name)


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
