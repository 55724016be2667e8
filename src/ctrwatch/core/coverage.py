"""
When was watched, and when not, by the history's own rows. Pure.

A row is a sign of the watch that wrote it, by the numbers of rows, not by their times: a
container that was born while nobody watched is told later, with the time of its birth.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.rows import WatchStart, WatchStop
from ctrwatch.event import WatchGap

__all__ = ("Coverage", "Hole", "Start", "Watching", "covered_ns")

# A watch that has nothing to tell writes a row after 300 s: two of them missing is silence.
_SILENCE_NS: Final = 660 * 1_000_000_000
_HOLES: Final = 10_000  # kept; a broken watch must not fill the memory


class Start(NamedTuple):
    """A watch's first row."""

    seq: int
    time_ns: int
    row: WatchStart


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """
    One run of the watch, as far as it lies in the period.

    *end*: stopped: it said so; goes_on: its last sign is at the period's end; no_stop: it was
    killed, or crashed; *until* is then its last sign.
    """

    since: str
    until: str
    end: Literal["stopped", "goes_on", "no_stop"]
    version: str = ""
    kernel: str = ""
    sensor: str = ""
    policies: tuple[str, ...] = ()
    seen: int | None = None
    lost: int | None = None
    rows_lost: int | None = None


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """
    A time of which containers may be missing.

    *reason*: a watch_gap's own (restart, lost, output); not_watched: no watch was running;
    silent: one was, and left no sign for longer than it should.
    """

    since: str
    until: str
    reason: Literal["restart", "lost", "output", "not_watched", "silent"]
    lost: int | None = None


class _Run:
    """A watch while its rows are read."""

    def __init__(self, start: Start | None) -> None:
        self.start = start
        self.since_ns = start.time_ns if start else -1  # -1: when its first row is read
        self.last_ns = self.since_ns
        self.stop: WatchStop | None = None


class Coverage:
    """*starts*: all of the history's, by their numbers. Feed it every row, in order of time."""

    def __init__(self, starts: Sequence[Start]) -> None:
        self._numbers = [start.seq for start in starts]
        # The first one: rows before any watch_start, whose beginning was pruned.
        self._runs = [_Run(None), *map(_Run, starts)]
        self._holes: list[tuple[int, int, Hole]] = []
        self.holes_left_out = 0

    def sign(self, seq: int, time_ns: int) -> None:
        """A row, of anything whose time is its own."""
        run = self._run(seq)
        if run.since_ns < 0:
            run.since_ns = run.last_ns = time_ns
        if run.stop is None and time_ns - run.last_ns > _SILENCE_NS:
            self._hole(run.last_ns, time_ns, "silent")
        run.last_ns = max(run.last_ns, time_ns)

    def stopped(self, seq: int, row: WatchStop) -> None:
        self._run(seq).stop = row

    def gap(self, gap: WatchGap) -> None:
        self._hole(wall_ns(gap.since), wall_ns(gap.until), gap.reason, gap.lost)

    def watchings(self, since_ns: int, until_ns: int) -> list[Watching]:
        found = []
        for run in self._runs:
            start_ns, end_ns = max(run.since_ns, since_ns), min(run.last_ns, until_ns)
            if run.since_ns < 0 or start_ns > end_ns:
                continue
            start, stop = run.start and run.start.row, run.stop
            goes_on = stop is None and run is self._last(until_ns)
            found.append(
                Watching(
                    since=rfc3339(start_ns),
                    until=rfc3339(end_ns),
                    end="stopped" if stop else "goes_on" if goes_on else "no_stop",
                    version=start.version if start else "",
                    kernel=start.kernel if start else "",
                    sensor=start.sensor if start else "",
                    policies=start.policies if start else (),
                    seen=stop.seen if stop else None,
                    lost=stop.lost if stop else None,
                    rows_lost=stop.rows_lost if stop else None,
                )
            )
        return found

    def holes(self, since_ns: int, until_ns: int) -> list[Hole]:
        """Those of the period, cut to it, oldest first; where nobody watched among them."""
        inside = [
            (max(begin, since_ns), min(end, until_ns), hole)
            for begin, end, hole in self._holes
            if begin < until_ns and end > since_ns
        ]
        at_ns = since_ns
        runs = [(wall_ns(each.since), each) for each in self.watchings(since_ns, until_ns)]
        for begin_ns, each in sorted(runs, key=lambda run: run[0]):
            if begin_ns > at_ns:
                inside.append((at_ns, begin_ns, _hole(at_ns, begin_ns, "not_watched")))
            at_ns = max(at_ns, wall_ns(each.until), until_ns if each.end == "goes_on" else 0)
        if at_ns < until_ns:
            inside.append((at_ns, until_ns, _hole(at_ns, until_ns, "not_watched")))
        return [
            _hole(begin, end, hole.reason, hole.lost)
            for begin, end, hole in sorted(inside, key=lambda each: each[:2])
        ]

    def _last(self, until_ns: int) -> _Run | None:
        """Who watches at the period's end, as its signs go."""
        run = max(self._runs, key=lambda each: each.last_ns)
        return run if until_ns - run.last_ns <= _SILENCE_NS else None

    def _run(self, seq: int) -> _Run:
        return self._runs[bisect_right(self._numbers, seq)]

    def _hole(
        self,
        begin_ns: int,
        end_ns: int,
        reason: Literal["restart", "lost", "output", "silent"],
        lost: int | None = None,
    ) -> None:
        if len(self._holes) < _HOLES:
            self._holes.append((begin_ns, end_ns, _hole(begin_ns, end_ns, reason, lost)))
        else:
            self.holes_left_out += 1


def covered_ns(since_ns: int, until_ns: int, holes: Iterable[Hole]) -> int:
    """How much of the period is in no hole. They may overlap; oldest first."""
    covered, at_ns = 0, since_ns
    for hole in holes:
        begin_ns, end_ns = wall_ns(hole.since), wall_ns(hole.until)
        covered += max(0, min(begin_ns, until_ns) - at_ns)
        at_ns = max(at_ns, end_ns)
    return covered + max(0, until_ns - at_ns)


def _hole(
    begin_ns: int,
    end_ns: int,
    reason: Literal["restart", "lost", "output", "not_watched", "silent"],
    lost: int | None = None,
) -> Hole:
    return Hole(since=rfc3339(begin_ns), until=rfc3339(end_ns), reason=reason, lost=lost)
