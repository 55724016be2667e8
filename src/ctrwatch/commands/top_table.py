"""
The table of `ctrwatch top`: a widget that draws the rows that are seen, and of those only what changed.

However many rows there are, a screen of them is made to text. Colours are the terminal's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from ctrwatch.core.board import Row
from ctrwatch.core.columns import GAP, Layout, cells, fit, killed
from ctrwatch.core.fitting import fitted

__all__ = ("Line", "Table", "Titles")

_NEW_NS: Final = 5_000_000_000  # so long a newborn stands out
_PLAIN: Final = Style()
_ENDED: Final = Style(dim=True)
_NEW: Final = Style(color="green", bold=True)
_KILLED: Final = Style(color="red", bold=True)
_CHOSEN: Final = Style(reverse=True)
_TITLE: Final = Style(bold=True, underline=True)
_SORTED: Final = Style(bold=True, reverse=True)
_SPARK: Final = Style(color="cyan")


class _Drawn(NamedTuple):
    """What a line shows: where it is the same it is not drawn again."""

    pieces: tuple[str, ...]
    style: Style


class Line(Widget):
    """One line of text, drawn again where it has changed."""

    DEFAULT_CSS = "Line { height: 1; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - textual's own name
        super().__init__(id=id)
        self._text = Text()

    def say(self, text: Text) -> None:
        text.no_wrap, text.overflow = True, "ellipsis"
        if text != self._text:
            self._text = text
            self.refresh()

    def render(self) -> Text:
        return self._text


class Titles(Line):
    """The columns' titles; a click chooses the column to sort by."""

    class Clicked(Message):
        """A column was chosen."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self) -> None:
        super().__init__(id="titles")
        self.layout_ = Layout(())

    def show(self, layout: Layout, sort: str, *, down: bool) -> None:
        self.layout_ = layout
        text = Text()
        for number, (each, width) in enumerate(layout.columns):
            if number:
                text.append(" " * GAP, _TITLE)
            title = each.title
            if each.key == sort:
                arrow = "▼" if down else "▲"
                title = title + arrow if len(title) < width else title[: width - 1] + arrow
            style = _SORTED if each.key == sort else _TITLE
            text.append(fitted(title, width, right=each.right), style)
        self.say(text)

    def on_click(self, event: events.Click) -> None:
        at = 0
        for each, width in self.layout_.columns:
            at += width + GAP
            if event.x < at:
                self.post_message(self.Clicked(each.key))
                return


class Table(ScrollView, can_focus=True, inherit_bindings=False):
    """`show` gives it the rows; `chosen` is the birth of the row that stands out, if any."""

    DEFAULT_CSS = "Table { height: 1fr; scrollbar-size: 0 0; overflow-x: hidden; }"

    class Seen(Message):
        """Other rows are seen now."""

    def __init__(self) -> None:
        super().__init__(id="table")
        self.rows: Sequence[Row] = ()
        self.chosen: str | None = None
        self._now_ns = 0
        self._columns = Layout(())
        self._without: tuple[str, ...] = ()
        self._drawn: dict[int, _Drawn] = {}  # by the line of the screen

    # --- what is shown --------------------------------------------------------------------

    @property
    def columns(self) -> Layout:
        return self._columns

    def seen(self) -> Sequence[Row]:
        """The rows on the screen."""
        top = self.scroll_offset.y
        return self.rows[top : top + self.size.height]

    def show(self, rows: Sequence[Row], now_ns: int, without: tuple[str, ...]) -> None:
        """*without*: columns that would be empty."""
        number = len(self.rows)
        self.rows, self._now_ns = rows, now_ns
        if without != self._without:
            self._without = without
            self._fit()
        if len(rows) != number:
            self.virtual_size = Size(self.size.width, len(rows))
        top = self.scroll_offset.y
        for y in range(self.size.height):
            if self._drawn.get(y) != self._line(y):
                self.refresh_line(y + top)

    def _fit(self) -> None:
        self._columns = fit(self.size.width, self._without)
        self.refresh()

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.rows))
        self._drawn.clear()
        self._fit()
        self.post_message(self.Seen())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Seen())

    def _line(self, y: int) -> _Drawn:
        at = y + self.scroll_offset.y
        if at >= len(self.rows):
            return _Drawn((), _PLAIN)
        row = self.rows[at]
        return _Drawn(tuple(cells(row, self._columns, self._now_ns)), self._style(row))

    def _style(self, row: Row) -> Style:
        if row.birth == self.chosen:
            return _CHOSEN
        if row.ended_ns is not None:
            return _ENDED
        if killed(row, self._now_ns):
            return _KILLED
        age_s = row.age_s(self._now_ns)
        is_new = row.born_seen and age_s is not None and age_s * 1e9 < _NEW_NS
        return _NEW if is_new else _PLAIN

    def render_line(self, y: int) -> Strip:
        drawn = self._drawn[y] = self._line(y)
        segments: list[Segment] = []
        for (each, _), piece in zip(self._columns.columns, drawn.pieces, strict=False):
            own = _SPARK if each.key == "minute" and drawn.style is _PLAIN else drawn.style
            if segments:
                segments.append(Segment(" " * GAP, drawn.style))
            segments.append(Segment(piece, own))
        return Strip(segments).adjust_cell_length(self.size.width, drawn.style)

    # --- what is chosen -------------------------------------------------------------------

    def _at(self) -> int | None:
        """Where the chosen row is; None: there is none, or it has gone."""
        if self.chosen is None:
            return None
        return next((at for at, row in enumerate(self.rows) if row.birth == self.chosen), None)

    def choose(self, at: int) -> None:
        if not self.rows:
            return
        at = min(max(0, at), len(self.rows) - 1)
        self.chosen = self.rows[at].birth
        top, height = self.scroll_offset.y, self.size.height
        if not top <= at < top + height:
            self.scroll_to(y=at if at < top else at - height + 1, animate=False)
        self.refresh()

    def move(self, by: int) -> None:
        """From the chosen row. Where none is chosen, from the first that is seen, or to that."""
        at = self._at()
        if at is None:
            at = self.scroll_offset.y - (1 if by == 1 else 0)
        self.choose(at + by)

    def let_go(self) -> None:
        """No row is chosen; what is first is seen."""
        self.chosen = None
        self.scroll_to(y=0, animate=False)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        self.choose(event.y + self.scroll_offset.y)
