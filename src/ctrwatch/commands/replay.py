"""`ctrwatch replay`: a recorded stream through the same chain."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from ctrwatch.app import Heard
from ctrwatch.commands.lines import chosen
from ctrwatch.core.chain import Chain, Clock, Report
from ctrwatch.core.story import Tell
from ctrwatch.model import RawEvent
from ctrwatch.sensor.journal import read_journal

__all__ = ("run",)


def run(path: Path, format_: str | None, *, raw: bool) -> None:
    header, inputs = read_journal(path)
    chain, offset_ns = Chain(header), header.wall_offset_ns
    line = chosen(format_, terminal=sys.stdout.isatty(), wall_offset_ns=lambda: offset_ns)

    def write(heard: Heard) -> None:
        if (made := line(heard)) is not None:
            sys.stdout.buffer.write(made)

    with contextlib.suppress(BrokenPipeError):
        for item in inputs:
            if isinstance(item, Clock):
                offset_ns = item.wall_offset_ns
            if raw and isinstance(item, RawEvent):
                write(item)
            for effect in chain.feed(item):
                if isinstance(effect, Tell | Report):
                    write(effect)
        sys.stdout.buffer.flush()
