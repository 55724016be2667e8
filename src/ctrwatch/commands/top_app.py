"""
`ctrwatch top` on a terminal: keys and lines over the board (core/board.py), and nothing else.

The watch feeds the board; four times a second the app looks whether something has come or gone, and
once a second, or as often as is asked, it draws: one sort, then the lines that have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, NamedTuple

import msgspec
from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input

from ctrwatch.commands.top_panels import HELP, Choice, Panel
from ctrwatch.commands.top_table import Line, Table, Titles
from ctrwatch.core import render
from ctrwatch.core.board import Board, Row
from ctrwatch.core.columns import amount, column, view
from ctrwatch.core.frame import container
from ctrwatch.core.text import clean, escaped
from ctrwatch.event import ContainerEvent
from ctrwatch.sensor.hostuse import HostLook

__all__ = ("Behind", "TopApp")

_BEAT_S: Final = 0.25  # from a birth to its row, at most
_DRAW_S: Final = 1.0  # ages are told in seconds
_FILTER: Final = 200  # characters
_WORD: Final = 200


class Behind(NamedTuple):
    """What the app shows, and whom it asks: the watch and its host, or a test's."""

    board: Board
    host: str
    now_ns: Callable[[], int]  # boot clock
    host_look: Callable[[], HostLook]
    last_told: Callable[[int], ContainerEvent | None]  # of a container, by its serial
    follow: Callable[[Sequence[int]], None]  # those whose figures are seen
    said: Callable[[], str]  # the last word of the log; "": none


class TopApp(App[None]):
    """One screen: the host's line, what is asked for, titles, rows, filter, keys."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; }
    #filter { display: none; border: none; height: 1; padding: 0; background: ansi_default; }
    #filter.asked { display: block; }
    Footer { background: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # Before whatever comes behind it: that is the filter's.
        Binding("slash", "filter", "Filter", key_display="/", priority=True),
        Binding("s", "sort", "Sort"),
        Binding("less_than_sign,comma", "sort_by(-1)", show=False),
        Binding("greater_than_sign,full_stop", "sort_by(1)", show=False),
        Binding("r", "reverse", "Reverse"),
        Binding("enter", "story", "Story"),
        Binding("p", "pause", "Pause"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("escape", "leave", show=False),
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home", "end(-1)", show=False),
        Binding("end", "end(1)", show=False),
    ]

    def __init__(
        self,
        behind: Behind,
        *,
        sort: str = "age",
        reverse: bool = False,
        text: str = "",
        limit: int | None = None,
        every_s: float = 2.0,
    ) -> None:
        super().__init__(ansi_color=True)  # the terminal's own, whichever they are; NO_COLOR: none
        self.theme = "ansi-dark"
        self._behind, self._limit = behind, limit
        self._sort_key, self._reversed, self._words = sort, reverse, text
        self._draw_s = min(_DRAW_S, every_s)
        self._changed, self._drawn_ns, self._paused_ns = True, 0, 0
        self._frozen: list[Row] | None = None  # while it is paused
        self._host_look = behind.host_look()

    def compose(self) -> ComposeResult:
        yield Line(id="host")
        yield Line(id="asked")
        yield Titles()
        yield Table()
        given = Input(placeholder="words: name, image, pod, runtime, id", id="filter", compact=True)
        given.max_length = _FILTER
        yield given
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self._table.focus()
        self.set_interval(_BEAT_S, self._beat)
        self._draw()

    @property
    def _table(self) -> Table:
        return self.screen_stack[0].query_one(Table)

    def changed(self) -> None:
        """A container has come or gone: its row is to be seen at the next beat."""
        self._changed = True

    # --- drawing --------------------------------------------------------------------------

    def _beat(self) -> None:
        since_s = (self._behind.now_ns() - self._drawn_ns) / 1e9
        if self._changed or not 0 <= since_s < self._draw_s - _BEAT_S / 2:
            self._draw()

    def _draw(self) -> None:
        behind, table = self._behind, self._table
        now_ns = self._drawn_ns = behind.now_ns()
        self._changed = False
        self._host_look = behind.host_look()
        behind.board.tidy(now_ns)
        shown_ns = self._paused_ns or now_ns
        source = behind.board if self._frozen is None else self._frozen
        rows = view(
            source, shown_ns, sort=self._sort_key, reverse=self._reversed, text=self._words
        )[: self._limit]
        without = () if any(row.pod_name for row in rows) else ("pod",)
        table.show(rows, shown_ns, without)
        line = _host_line(behind, self._host_look, now_ns)
        self.screen_stack[0].query_one("#host", Line).say(line)
        self._around_table()

    @on(Table.Seen)
    def _around_table(self) -> None:
        """What depends on the rows that are seen; whoever scrolls sorts nothing."""
        screen, table = self.screen_stack[0], self._table
        screen.query_one("#asked", Line).say(self._asked_line(len(table.rows)))
        by = column(self._sort_key)
        screen.query_one(Titles).show(table.columns, self._sort_key, down=by.down != self._reversed)
        seen = (row.serial for row in table.seen() if row.ended_ns is None)
        self._behind.follow([serial for serial in seen if serial is not None])

    def _asked_line(self, number: int) -> Text:
        table = self._table
        first = table.scroll_offset.y + 1
        last = min(number, first + table.size.height - 1)
        line = Text(f" {first if number else 0}–{last} of {number}")
        line.append(f"  by {column(self._sort_key).title.lower()}")
        if self._reversed:
            line.append(", reversed")
        if self._words:
            line.append(f"  filter: {clean(self._words, 60)}", "bold")
        if self._frozen is not None:
            line.append("  PAUSED", "bold reverse")
        if word := self._behind.said():
            line.append(f"  {clean(word, _WORD)}", "yellow")
        return line

    # --- keys -----------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """While a panel is there, or the filter is typed, keys are theirs."""
        alone = len(self.screen_stack) == 1 and not isinstance(self.focused, Input)
        return alone or action in ("quit", "leave", "pop_screen")

    def action_move(self, by: int) -> None:
        self._table.move(by)

    def action_page(self, by: int) -> None:
        self._table.move(by * max(1, self._table.size.height - 1))

    def action_end(self, by: int) -> None:
        self._table.choose(by * len(self._table.rows))

    def action_sort_by(self, by: int) -> None:
        """The column beside it, of those that are seen."""
        keys = [each.key for each, _ in self._table.columns.columns]
        at = keys.index(self._sort_key) + by if self._sort_key in keys else 0
        self._sort(keys[at % len(keys)])

    def action_sort(self) -> None:
        columns = tuple(each for each, _ in self._table.columns.columns)
        self.push_screen(Choice(columns, self._sort_key), self._sort)

    @on(Titles.Clicked)
    def _title_clicked(self, event: Titles.Clicked) -> None:
        self._sort(event.key)

    def _sort(self, key: str | None) -> None:
        """By that column; by the same one again: the other way round."""
        if key is None:
            return
        self._reversed = key == self._sort_key and not self._reversed
        self._sort_key = key
        self._draw()

    def action_reverse(self) -> None:
        self._reversed = not self._reversed
        self._draw()

    def action_pause(self) -> None:
        frozen = self._frozen is None
        self._frozen = [row.frozen() for row in self._behind.board] if frozen else None
        self._paused_ns = self._behind.now_ns() if frozen else 0
        self._draw()

    def action_filter(self) -> None:
        given = self.query_one("#filter", Input)
        given.value = self._words
        given.add_class("asked")
        self.screen.set_focus(given)  # at once: what is typed behind the key is the filter's

    @on(Input.Changed, "#filter")
    def _typed(self, event: Input.Changed) -> None:
        self._words = event.value
        self._table.scroll_to(y=0, animate=False)
        self._draw()

    @on(Input.Submitted, "#filter")
    def _filtered(self) -> None:
        self.query_one("#filter", Input).remove_class("asked")
        self.screen.set_focus(self._table)

    def action_leave(self) -> None:
        """Out of a panel; out of the filter, and of what it hid; from the chosen row to the first."""
        if len(self.screen_stack) > 1:
            return
        if isinstance(self.focused, Input) or self._words:
            self._filtered()
            self._words = ""
            self._draw()
        else:
            self._table.let_go()

    def action_help(self) -> None:
        self.push_screen(Panel("ctrwatch top", HELP))

    def action_story(self) -> None:
        table = self._table
        if not table.rows:
            return
        chosen = [row for row in table.rows if row.birth == table.chosen]
        row = chosen[0] if chosen else table.seen()[0]
        self.push_screen(Panel("all that is known of it", self._story(row)))

    def _story(self, row: Row) -> str:
        event = row.last
        if event is None and row.serial is not None:
            event = self._behind.last_told(row.serial)
        told = render.json_line(event) if event is not None else b"{}"
        used = msgspec.json.encode(container(row, self._paused_ns or self._behind.now_ns()))
        return f"{_pretty(told)}\n\nin the table:\n{_pretty(used)}"


def _pretty(line: bytes) -> str:
    """JSON as people read it; a line is escaped for a terminal."""
    return escaped(msgspec.json.format(line, indent=2)).decode()


def _host_line(behind: Behind, host: HostLook, now_ns: int) -> Text:
    board = behind.board
    line = Text(f" {clean(behind.host, 30)}", "bold")
    line.append(f"  {len(board)} living, {board.born_last_minute(now_ns)} born in a minute", "")
    usage, rates = host
    if rates is not None and rates.cpu_cores is not None:
        of = "" if usage.cpus is None else f" of {usage.cpus}"
        line.append(f"  CPU {rates.cpu_cores:.2f}{of}")
    if usage.memory_bytes is not None and usage.memory_total_bytes is not None:
        line.append(f"  MEM {amount(usage.memory_bytes)} of {amount(usage.memory_total_bytes)}")
    gaps, raw_events = board.losses
    if gaps:
        line.append(f"  ! {gaps} gaps, {raw_events} raw events lost", "red bold")
    return line
