"""`ctrwatch replay`: a recorded stream through the same chain."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctrwatch.app import Heard
from ctrwatch.commands.asked import FAILED
from ctrwatch.commands.lines import chosen
from ctrwatch.core.chain import Chain, Clock, Effect, Header, Input, Report
from ctrwatch.core.ledger import Reading
from ctrwatch.core.story import Tell
from ctrwatch.model import RawEvent
from ctrwatch.sensor.journal import read_journal

if TYPE_CHECKING:
    from ctrwatch.commands.verdicts import Verdicts
    from ctrwatch.core.holding import Holding
    from ctrwatch.core.judge import Breach

__all__ = ("run",)


def run(path: Path, format_: str | None, verdicts: Verdicts | None, *, raw: bool) -> int:
    header, inputs = read_journal(path)
    if verdicts is not None and header.usage_at_ns is None:
        verdicts.without_use(refuse=False)
    player = _Player(header, format_, verdicts, raw=raw)
    with contextlib.suppress(BrokenPipeError):
        for item in inputs:
            player.play(item)
        player.finish()
        sys.stdout.buffer.flush()
    return FAILED if verdicts and verdicts.failed else 0


class _Player:
    """The chain and the judge, without a clock: time is what the inputs say."""

    def __init__(
        self, header: Header, format_: str | None, verdicts: Verdicts | None, *, raw: bool
    ) -> None:
        self._chain, self._raw = Chain(header), raw
        self._offset_ns, self._now_ns = header.wall_offset_ns, 0
        line = chosen(format_, terminal=sys.stdout.isatty(), wall_offset_ns=lambda: self._offset_ns)
        self._line = verdicts.showing(line) if verdicts else line
        self._judge = verdicts.judge if verdicts else None
        self._holding = verdicts.holding if verdicts else None

    def play(self, item: Input) -> None:
        if isinstance(item, Clock):
            self._offset_ns = item.wall_offset_ns
        self._pass(max(self._now_ns, getattr(item, "boot_ns", 0)))
        if self._raw and isinstance(item, RawEvent):
            self._write(item)
        for effect in self._chain.feed(item):
            if isinstance(effect, Tell | Report):
                self._write(effect)
            if isinstance(effect, Tell) and self._judge is not None:
                self._say(self._judge.heard(effect.event, self._now_ns))
            if self._holding is not None:
                self._look(self._holding, effect)

    def _look(self, holding: Holding, effect: Effect) -> None:
        if isinstance(effect, Reading):
            self._say(holding.read(effect, self._offset_ns))
            for doubt in holding.doubts():
                sys.stderr.write(f"ctrwatch: {doubt}\n")
        elif isinstance(effect, Tell) and effect.event.event == "container_remove":
            holding.ended(effect.event)

    def finish(self) -> None:
        if self._judge is not None:
            self._say(self._judge.finish())

    def _pass(self, now_ns: int) -> None:
        """Time goes on: what must not wait longer is told."""
        self._now_ns = now_ns
        if self._judge is not None:
            self._say(self._judge.overdue(now_ns))

    def _say(self, breaches: Sequence[Breach]) -> None:
        for breach in breaches:
            self._write(Report(breach.violation))

    def _write(self, heard: Heard) -> None:
        if (made := self._line(heard)) is not None:
            sys.stdout.buffer.write(made)
