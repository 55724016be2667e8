"""Which line an event becomes, by `--format` and by where it goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from ctrwatch.app import Heard
from ctrwatch.core import render
from ctrwatch.core.chain import Report
from ctrwatch.core.ledger import Reading
from ctrwatch.core.story import Tell
from ctrwatch.core.text import escaped
from ctrwatch.event import HostUsage
from ctrwatch.model import RawEvent

__all__ = ("Rendering", "chosen")


def chosen(
    format_: str | None, *, terminal: bool, wall_offset_ns: Callable[[], int]
) -> Callable[[Heard], bytes | None]:
    """A function that makes the line; None from it where this format has no such event."""
    format_ = format_ or ("text" if terminal else "json")
    make, colours = _FORMATS[format_], terminal and not os.environ.get("NO_COLOR")
    escapes = terminal and format_ != "text"  # text's own are the colours

    def line(heard: Heard) -> bytes | None:
        made = make(heard, wall_offset_ns, colours)
        return escaped(made) if escapes and made is not None else made

    return line


class Rendering:
    """As `chosen`, by a format that can be changed while it is used."""

    def __init__(
        self, format_: str | None, *, terminal: bool, wall_offset_ns: Callable[[], int]
    ) -> None:
        self._wall_offset_ns = wall_offset_ns
        self.change(format_, terminal=terminal)

    def change(self, format_: str | None, *, terminal: bool) -> None:
        self.terminal = terminal
        self._line = chosen(format_, terminal=terminal, wall_offset_ns=self._wall_offset_ns)

    def __call__(self, heard: Heard) -> bytes | None:
        return self._line(heard)


# To a reader: looks at the host at births and ends are for those who reckon with them.
_SHOWN_S: Final = 9.0


def _text(heard: Heard, wall_offset_ns: Callable[[], int], colours: bool) -> bytes | None:  # noqa: FBT001
    match heard:
        case Reading():
            return None
        case Report(HostUsage(rates=rates)) if rates is None or rates.seconds < _SHOWN_S:
            return None
        case RawEvent():
            line = render.raw_text(heard, wall_offset_ns())
        case Report(event):
            line = render.host_text_line(event, colours=colours)
        case Tell(event):
            line = render.text_line(event, colours=colours)
    return line.encode() if line is not None else None


def _json(heard: Heard, wall_offset_ns: Callable[[], int], _: object) -> bytes | None:
    match heard:
        case Reading():
            return None
        case RawEvent():
            return render.raw_line(heard, wall_offset_ns())
        case Report(event):
            return render.host_json_line(event)
        case Tell(event):
            return render.json_line(event)


def _tracee(heard: Heard, wall_offset_ns: Callable[[], int], _: object) -> bytes | None:
    match heard:
        case RawEvent():
            return render.raw_line(heard, wall_offset_ns())
        case Report() | Reading():
            return None  # Tracee has no such event
        case Tell(event, creator):
            return render.tracee_line(event, creator)


_FORMATS: Final = {"text": _text, "json": _json, "tracee": _tracee}
