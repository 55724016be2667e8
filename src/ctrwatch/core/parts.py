"""Pieces that the report's sections are made of: tables, cards, bars over time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ctrwatch.core import drawing
from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.markup import Markup, joined, tag, trusted

__all__ = ("card", "counted", "over_time", "rest", "short", "table", "when", "word")

_NUMBERS: Final = frozenset("0123456789,")
_WORDS: Final = {
    "yes": ("good", "approved"),
    "no": ("bad", "not approved"),
    "unknown": ("open", "unknown"),
    "not_judged": ("faint", "not judged"),
}


def when(time: str) -> str:
    """
    >>> when("2026-11-23T19:46:12.460562493Z")
    '2026-11-23 19:46:12Z'
    """
    return f"{time[:10]} {time[11:19]}Z" if time else ""


def short(digest: str) -> Markup:
    """A digest's or an id's beginning, whole for the mouse."""
    kind, colon, digits = digest.rpartition(":")
    return tag("code", f"{kind}{colon}{digits[:12]}", title=digest) if digest else trusted("")


def word(approved: str) -> Markup:
    name, text = _WORDS[approved]
    return tag("span", text, class_=name)


def counted(number: int, of: str) -> str:
    """
    >>> counted(1, "container"), counted(1200, "image")
    ('1 container', '1,200 images')
    """
    return f"{number:,} {of}{'s' * (number != 1)}"


def card(title: str, value: str, note: str, state: str = "") -> Markup:
    return tag(
        "div",
        tag("span", title, class_="faint"),
        tag("b", value, class_=state or None),
        tag("span", note, class_="faint"),
        class_="card",
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], ids: Sequence[str] | None = None
) -> Markup:
    """On a telephone each row is a card, whose cells carry their column's name."""
    made = [list(row) for row in rows]
    numeric = {
        column
        for column in range(len(head))
        if made and all(_NUMBERS.issuperset(row[column]) for row in made)
    }

    def kind(column: int, cell: str = "") -> str | None:
        if column in numeric:
            return "number"
        return "time" if len(cell) == 20 and cell.endswith("Z") else None

    lines = []
    for number, row in enumerate(made):
        cells = [
            tag("td", tag("div", cell), class_=kind(column, cell), data_label=head[column])
            if cell
            else trusted("<td></td>")
            for column, cell in enumerate(row)
        ]
        lines.append(tag("tr", *cells, id=ids[number] if ids else None))
    titles = [tag("th", title, class_=kind(column)) for column, title in enumerate(head)]
    return tag("table", tag("thead", tag("tr", *titles)), tag("tbody", *lines))


def rest(number: int, shown: int, where: str) -> Markup:
    """What is not on the page, and where it is."""
    if number <= shown:
        return trusted("")
    return tag("p", f"The first {shown:,} of {number:,}; all of them: {where}.", class_="faint")


def over_time(label: str, since: str, step_s: float, stacks: Mapping[str, Sequence[int]]) -> Markup:
    """Bars, what they mean, and the axis below."""
    begin_ns = wall_ns(since)
    steps = max((len(stack) for stack in stacks.values()), default=0)
    times = [when(rfc3339(begin_ns + int(step * step_s * 1e9))) for step in range(steps + 1)]
    highest = max((sum(column) for column in zip(*stacks.values(), strict=True)), default=0)
    keys = [
        tag("span", tag("span", class_=f"key fill-{name}"), f"{name}: {sum(stack):,}")
        for name, stack in stacks.items()
    ]
    return joined(
        (
            drawing.bars(label, times[:-1], stacks),
            tag("div", *(tag("span", times[at]) for at in (0, -1)), class_="ends"),
            tag(
                "div",
                *keys,
                tag("span", f"highest bar: {highest:,} in {_span(step_s)}", class_="faint"),
                class_="legend",
            ),
        )
    )


def _span(seconds: float) -> str:
    """
    >>> _span(90), _span(5400), _span(200_000)
    ('90 s', '90 min', '56 h')
    """
    for size, unit in ((86_400 * 3, "d"), (3600 * 3, "h"), (180, "min")):
        if seconds >= size:
            return f"{seconds / {'d': 86_400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
