"""What `ctrwatch top` lays over its table: a container's story, the columns to choose from, help."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ctrwatch.core.columns import Column

__all__ = ("HELP", "Choice", "Panel")

HELP: Final = """\
/          filter: words that all stand in name, image, pod, runtime or id; esc ends it
s  <  >    choose the column to sort by; a click on its title does too
r          the other way round
↑ ↓  PgUp PgDn  Home End    choose a container; esc lets it go
enter      its whole story: all that is known of it
p          pause: the table stands still, and what happens is kept
q          end; so does Ctrl-C

AGE      since its birth, or how long it lived
CPU      cores, on average since the look before
MEM      memory, with the file cache        %LIM  of its own limit
I/O      bytes a second, read and written   TASKS  processes and threads
PSI      how long tasks waited in the last 10 s, and for what; OOM: one was just
         killed for want of memory
1ST MIN  CPU in each second of its first minute; full height is one core, or its most

Green: just born. Dim: ended, with its bill. Rows on the screen are looked at most often.\
"""


class Panel(ModalScreen[None]):
    """A text to scroll through, until a key closes it. *title* is ours: textual reads markup in it."""

    DEFAULT_CSS = """
    Panel { align: center middle; background: transparent; }
    Panel VerticalScroll { width: 94%; height: auto; max-height: 90%; border: round ansi_cyan;
                           padding: 0 1; background: ansi_default; scrollbar-size: 0 0; }
    Panel Static { width: 1fr; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark", "app.pop_screen", "Close", priority=True)
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._said = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll() as scroll:
            scroll.border_title = self._title
            scroll.border_subtitle = "esc closes"
            yield Static(Text(self._said))


class Choice(ModalScreen[str | None]):
    """The columns: which one shall sort?"""

    DEFAULT_CSS = """
    Choice { align: center middle; background: transparent; }
    Choice OptionList { width: 24; height: auto; max-height: 90%; border: round ansi_cyan;
                        background: ansi_default; scrollbar-size: 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "close", "Close", priority=True)]

    def __init__(self, columns: tuple[Column, ...], sort: str) -> None:
        super().__init__()
        self._columns, self._sort = columns, sort

    def compose(self) -> ComposeResult:
        options = OptionList(*(Option(each.title, id=each.key) for each in self._columns))
        options.border_title = "sort by"
        keys = [each.key for each in self._columns]
        options.highlighted = keys.index(self._sort) if self._sort in keys else 0
        yield options

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def action_close(self) -> None:
        self.dismiss(None)
