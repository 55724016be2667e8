"""The judge at work in a watch: verdicts right after the event that they are about."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ctrwatch.app import Heard, Listener
from ctrwatch.core.chain import Report
from ctrwatch.core.holding import Holding
from ctrwatch.core.judge import Breach, Judge
from ctrwatch.core.ledger import Reading
from ctrwatch.core.story import Tell
from ctrwatch.sensor.host import boot_clock_ns, wall_offset_ns

__all__ = ("Judging",)

log = logging.getLogger(__name__)


class Judging:
    """
    A listener of a watch that passes on what it hears, and verdicts after it.

    *act* is called with each, right after its line was given away. Neither may wait. With *holding*
    looks at what containers use are judged, too; then `rouse` is set, and called with the serial of
    a container that must be looked at each second, and `wall_offset_ns` is the watch's.
    """

    def __init__(
        self,
        judge: Judge,
        listener: Listener,
        act: Callable[[Breach], None] | None = None,
        holding: Holding | None = None,
    ) -> None:
        self._judge, self._listener, self._act = judge, listener, act
        self._holding = holding
        self.rouse: Callable[[int], None] = lambda _: None
        self.wall_offset_ns: Callable[[], int] = wall_offset_ns
        self._timer: asyncio.TimerHandle | None = None
        self.told = 0

    def __call__(self, heard: Heard) -> None:
        self._listener(heard)
        if isinstance(heard, Tell):
            self._say(self._judge.heard(heard.event, boot_clock_ns()))
            self._wait()
            if self._holding is not None and heard.event.event == "container_remove":
                self._holding.ended(heard.event)
        elif isinstance(heard, Reading) and self._holding is not None:
            self._look(self._holding, heard)

    def finish(self) -> None:
        """Nothing comes any more: what still waits is undecided."""
        if self._timer is not None:
            self._timer.cancel()
        self._say(self._judge.finish())

    def _look(self, holding: Holding, reading: Reading) -> None:
        self._say(holding.read(reading, self.wall_offset_ns()))
        if holding.is_on(reading.container):
            self.rouse(reading.serial)
        for doubt in holding.doubts():
            log.warning("%s", doubt)

    def _say(self, breaches: list[Breach]) -> None:
        for breach in breaches:
            self.told += 1
            self._listener(Report(breach.violation))
            if self._act is not None:
                self._act(breach)

    def _wait(self) -> None:
        """One timer for all rules that wait, for the first that must not wait longer."""
        due_ns = self._judge.due_ns
        if due_ns is None or self._timer is not None:
            return
        delay_s = max(0, due_ns - boot_clock_ns()) / 1e9
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        self._say(self._judge.overdue(boot_clock_ns()))
        self._wait()
