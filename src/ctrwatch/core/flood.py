"""
A user who makes cgroups that are named like containers, by the thousand: told as one flood.

Pure: births in, floods out; its clock is that of the inputs. A name proves little, and each
one costs a story of up to `--wait` and questions to every source. So a user other than root
has a budget of births of which no evidence speaks, or not yet. Evidence gives a birth back.
What goes beyond the budget is counted, and told as one event when its window is over; it
is neither asked about nor remembered. Births that an OCI runtime's command line speaks
for have a budget of their own, so that names alone can't use up that of real containers.

Root's births have no budget: whoever is root needs no flood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ctrwatch.core.changes import Born
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.ids import stable_id
from ctrwatch.core.steps import LEADS_ONLY
from ctrwatch.core.text import jsonable
from ctrwatch.event import Flood
from ctrwatch.model import Answer, Found

__all__ = ("SERIAL", "Excess", "Floods", "flood")

SERIAL: Final = 0  # of its alarms: births are numbered from 1

_WINDOW_NS: Final = 10_000_000_000  # a flood is told as often as that
# Of one user in a window. A rootless container takes 50 ms of a processor and more to start and
# is known within 30: this many at a time are no containers.
_SINGLY: Final = 100
_USERS: Final = (
    256  # that have a budget each: a user may have 65,536 ids, and those beyond share one
)
_EXAMPLES: Final = 3
_EXAMPLE: Final = 512  # characters

_Lane = tuple[int | None, bool]  # uid, and whether an OCI runtime's command line speaks for it


class Excess(NamedTuple):
    """What went beyond a user's budget in one window; `uid` None: of many users together."""

    uid: int | None
    since_ns: int  # CLOCK_BOOTTIME, of the first birth in the window
    until_ns: int
    number: int
    examples: tuple[str, ...]  # paths of the first ones


class _Window:
    def __init__(self, since_ns: int) -> None:
        self.since_ns, self.until_ns = since_ns, since_ns + _WINDOW_NS
        self.told: set[int] = set()  # serials that no evidence speaks for
        self.count = 0  # of those beyond
        self.examples: list[str] = []


class Floods:
    """The budgets of all users. Memory: `_USERS` windows of `_SINGLY` numbers."""

    def __init__(self) -> None:
        self._windows: dict[_Lane, _Window] = {}
        self._lanes: dict[int, _Lane] = {}  # of the births that count
        self._ended: list[Excess] = []

    def admits(self, born: Born) -> bool:
        """Whether that birth is told by itself."""
        if (uid := _uid(born)) <= 0:  # root's; or nobody's, by fanotify: it may be root's
            return True
        lane = self._lane(uid, born)
        window = self._windows.get(lane)
        if window is None:
            window = self._windows[lane] = _Window(born.boot_ns)
        if len(window.told) < _SINGLY:
            window.told.add(born.serial)
            self._lanes[born.serial] = lane
            return True
        window.count += 1
        if len(window.examples) < _EXAMPLES:
            window.examples.append(born.path[:_EXAMPLE])
        return False

    def answered(self, serial: int, source: str, answer: Answer) -> None:
        """Evidence that speaks for a birth: it does not count."""
        if not isinstance(answer, Found) or source in LEADS_ONLY:
            return
        lane = self._lanes.pop(serial, None)
        if lane is not None and lane in self._windows:
            self._windows[lane].told.discard(serial)

    def next_ns(self) -> int | None:
        """When the first flood is to be told; None: there is none."""
        return min((each.until_ns for each in self._floods()), default=None)

    def due(self, now_ns: int) -> list[Excess]:
        """The floods whose windows are over by then, each once."""
        self._end(now_ns)
        due, self._ended = self._ended, []
        return due

    # --- windows ----------------------------------------------------------------------------

    def _lane(self, uid: int, born: Born) -> _Lane:
        lane = uid, born.call is not None
        window = self._windows.get(lane)
        if window is not None and born.boot_ns >= window.until_ns:
            self._end(born.boot_ns)
        elif window is None and len(self._windows) >= _USERS:
            self._end(born.boot_ns)
            if len(self._windows) >= _USERS:
                return None, lane[1]
        return lane

    def _end(self, now_ns: int) -> None:
        for lane in [lane for lane, each in self._windows.items() if now_ns >= each.until_ns]:
            window = self._windows.pop(lane)
            for serial in window.told:
                self._lanes.pop(serial, None)
            if window.count:
                self._ended.append(_excess(lane, window))

    def _floods(self) -> Iterator[_Window | Excess]:
        yield from (window for window in self._windows.values() if window.count)
        yield from self._ended


def _uid(born: Born) -> int:
    """Whose birth it is; of those that were there before us there is no flood."""
    if born.creator is not None:
        return born.creator.uid
    return born.listed.uid if born.listed is not None and born.listed.unheard else 0


def _excess(lane: _Lane, window: _Window) -> Excess:
    return Excess(lane[0], window.since_ns, window.until_ns, window.count, tuple(window.examples))


def flood(excess: Excess, host: str, boot_id: str, wall_offset_ns: int) -> Flood:
    """*wall_offset_ns*: what turns CLOCK_BOOTTIME into wall time."""
    parts = (boot_id, "flood", excess.uid, excess.since_ns, *excess.examples)
    until = rfc3339(excess.until_ns + wall_offset_ns)
    return Flood(
        id=stable_id(*parts),
        time=until,
        host=host,
        since=rfc3339(excess.since_ns + wall_offset_ns),
        until=until,
        uid=excess.uid,
        count=excess.number,
        examples=tuple(map(jsonable, excess.examples)),
    )
