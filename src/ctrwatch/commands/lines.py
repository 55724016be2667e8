"""Which line an event becomes, by `--format` and by where it goes."""

from __future__ import annotations

import os
from collections.abc import Callable

from ctrwatch.app import Heard
from ctrwatch.core import render
from ctrwatch.model import RawEvent

__all__ = ("chosen",)


def chosen(
    format_: str | None, *, terminal: bool, wall_offset_ns: Callable[[], int]
) -> Callable[[Heard], bytes | None]:
    """A function that makes the line; None from it where this format has no such event."""
    format_ = format_ or ("text" if terminal else "json")
    colours = terminal and not os.environ.get("NO_COLOR")

    def line(heard: Heard) -> bytes | None:
        if isinstance(heard, RawEvent):
            if format_ != "text":
                return render.raw_line(heard, wall_offset_ns())
            text = render.raw_text(heard, wall_offset_ns())
            return text.encode() if text is not None else None
        if format_ == "tracee":
            return render.tracee_line(heard.event, heard.creator)
        if format_ == "json":
            return render.json_line(heard.event)
        return render.text_line(heard.event, colours=colours).encode()

    return line
