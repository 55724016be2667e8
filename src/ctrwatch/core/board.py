"""
The containers as a live table has them: events and readings in, rows out. Pure.

A row is what is shown of one container, and no more: its whole event is the chain's, packed.
Times are the boot clock's, so a clock that jumps makes nobody older. An ended container's row
stays for a while, as it was last, with its bill.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from copy import copy
from math import ceil, nan
from typing import Final, NamedTuple

from ctrwatch.core.ids import birth_of
from ctrwatch.core.ledger import Reading
from ctrwatch.core.report import Report
from ctrwatch.core.story import Tell
from ctrwatch.event import Bill, ContainerEvent, ContainerUsage, Rates, Usage, WatchGap
from ctrwatch.model import RawEvent

__all__ = ("KEPT_NS", "MINUTE", "Board", "Row")

_SECOND: Final = 1_000_000_000
MINUTE: Final = 60  # seconds of a life that the spark line has, one value each
KEPT_NS: Final = 10 * _SECOND  # an ended container: long enough to be read
_ENDED: Final = 1_009  # of those at most, the latest: in a storm no screen shows more
_TEXT: Final = 512  # characters of a name, an image, a pod


class Row:
    """One container. What is not known (yet) is None or ""; *minute* has NaN where nobody looked."""

    __slots__ = (
        *("birth", "born_ns", "born_seen", "container_id", "ended_ns", "hay", "image"),
        *("killed_ns", "last", "minute", "name", "pod_name", "pod_namespace", "rates", "runtime"),
        *("serial", "usage"),
    )

    def __init__(self, birth: str) -> None:
        self.birth = birth
        self.serial: int | None = None  # the chain's, by its first reading
        self.born_ns: int | None = None
        self.born_seen = False  # by this watch
        self.ended_ns: int | None = None
        self.killed_ns: int | None = None  # a process of it, for want of memory, last
        self.usage: Usage | None = None
        self.rates: Rates | None = None
        self.last: ContainerEvent | None = None  # of an ended one; the chain has forgotten it
        self.minute: array[float] | None = None  # CPU cores in each second of its first minute
        self.runtime = self.container_id = self.name = self.image = ""
        self.pod_name = self.pod_namespace = self.hay = ""

    @property
    def bill(self) -> Bill | None:
        return self.last.usage if self.last is not None else None

    @property
    def pod(self) -> str:
        return "/".join(filter(None, (self.pod_namespace, self.pod_name)))

    def frozen(self) -> Row:
        """As it is now, whatever comes."""
        row = copy(self)
        row.minute = None if self.minute is None else self.minute[:]
        return row

    def described(self, event: ContainerEvent) -> None:
        self.runtime, self.container_id = str(event.runtime), event.container_id
        self.name, self.image = event.container_name[:_TEXT], event.container_image[:_TEXT]
        self.pod_name, self.pod_namespace = event.pod_name[:_TEXT], event.pod_namespace[:_TEXT]
        said = (self.name, self.image, self.pod, self.runtime, self.container_id)
        self.hay = "\n".join(said).casefold()

    def age_s(self, now_ns: int) -> float | None:
        """Of an ended one, how long it lived; None: its birth is not known."""
        until_ns = now_ns if self.ended_ns is None else self.ended_ns
        return None if self.born_ns is None else max(0, until_ns - self.born_ns) / _SECOND

    def looked(self, reading: Reading) -> None:
        self.serial, self.usage = reading.serial, reading.usage
        self.rates = reading.rates or self.rates
        if reading.age_seconds is None:
            return
        if not self.born_seen:  # better than the runtime's word: it may have been started again
            self.born_ns = reading.boot_ns - int(reading.age_seconds * _SECOND)
        if reading.rates is not None and reading.rates.cpu_cores is not None:
            self._spark(reading.age_seconds, reading.rates.cpu_cores, reading.rates.seconds)

    def _spark(self, age_s: float, cores: float, over_s: float) -> None:
        """*cores*, on average over the last *over_s* seconds of its life so far."""
        if age_s - over_s >= MINUTE:
            return
        if self.minute is None:
            self.minute = array("f", [nan]) * MINUTE
        last = min(MINUTE, ceil(age_s))
        for second in range(max(0, round(age_s - over_s)), last):
            if not self.minute[second] >= 0:
                self.minute[second] = cores
        if last:  # a second that is looked at twice has the later word
            self.minute[last - 1] = cores


class Losses(NamedTuple):
    """What the watch itself missed so far."""

    gaps: int = 0  # times of which something may be missing
    raw_events: int = 0  # that the kernel dropped


class Board:
    """
    All rows, by birth. *wanted*: whether an event's container is to be shown at all.

    *offset_ns*: from the boot clock to the wall clock, which events have.
    """

    def __init__(
        self,
        offset_ns: Callable[[], int],
        wanted: Callable[[ContainerEvent], bool] = lambda _: True,
        kept_ns: int = KEPT_NS,
    ) -> None:
        self._offset_ns, self._wanted, self._kept_ns = offset_ns, wanted, kept_ns
        self._rows: dict[str, Row] = {}
        self._ended: OrderedDict[str, Row] = OrderedDict()  # the first to end first
        self._births = [(-1, 0)] * MINUTE  # of the last minute: second, number
        self.losses = Losses()

    def __len__(self) -> int:
        """Living ones."""
        return len(self._rows) - len(self._ended)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, birth: str) -> Row | None:
        return self._rows.get(birth)

    def born_last_minute(self, now_ns: int) -> int:
        since = now_ns // _SECOND - MINUTE
        return sum(number for second, number in self._births if second > since)

    def heard(self, heard: Tell | Report | RawEvent | Reading, now_ns: int) -> bool:
        """Whether a container has come or gone."""
        match heard:
            case Tell(event):
                return self._told(event, now_ns)
            case Reading(container=event):
                row = self._rows.get(birth_of(event.id))
                if row is not None and row.ended_ns is None:
                    row.looked(heard)
            case Report(ContainerUsage(event="container_oom") as oom):
                if (row := self._rows.get(birth_of(oom.id))) is not None:
                    row.killed_ns = now_ns
            case Report(WatchGap(lost=lost)):
                gaps, raw_events = self.losses
                self.losses = Losses(gaps + 1, raw_events + (lost or 0))
            case _:
                pass
        return False

    def _told(self, event: ContainerEvent, now_ns: int) -> bool:
        if event.event == "container_remove":
            return self._gone(event, now_ns)
        birth = birth_of(event.id)
        known = self._rows.get(birth)
        if not self._wanted(event):
            if known is not None and known.ended_ns is None:
                del self._rows[birth]
            return known is not None
        row = known or self._new(birth, event, now_ns)
        row.described(event)
        return known is None

    def _new(self, birth: str, event: ContainerEvent, now_ns: int) -> Row:
        row = self._rows[birth] = Row(birth)
        if event.ctime is not None:
            row.born_ns = event.ctime - self._offset_ns()
        if event.event == "container_create":
            row.born_seen = True
            second = now_ns // _SECOND
            at, number = self._births[second % MINUTE]
            self._births[second % MINUTE] = (second, number + 1 if at == second else 1)
        return row

    def _gone(self, event: ContainerEvent, now_ns: int) -> bool:
        row = self._rows.get(birth_of(event.id))
        if row is None or row.ended_ns is not None:
            return False  # not shown, or of before us
        row.ended_ns, row.last = now_ns, event
        self._ended[row.birth] = row
        if len(self._ended) > _ENDED:
            self._forget()
        return True

    def _forget(self) -> None:
        birth, _ = self._ended.popitem(last=False)
        del self._rows[birth]

    def tidy(self, now_ns: int) -> None:
        """Take away those that ended long enough ago."""
        while self._ended:
            row = next(iter(self._ended.values()))
            if row.ended_ns is not None and now_ns - row.ended_ns < self._kept_ns:
                return
            self._forget()
