"""
When to look at which container: attention that fades. Pure.

A newborn is looked at three times in the half second after its first instruction, each second of
its first minute, then every 5 s until it is 5 minutes old, every 30 s until it is half an hour, then
at the settled beat (or always at that, where it is shorter). What was roused (the kernel
killed a process of it for want of memory) is looked at each second for ten more. What somebody
follows (the rows that a terminal shows) is looked at as often as he asks, and fades when he turns away.

Quick beats are counted from the birth. The slow ones are spread over their time, for a host starts
many containers at once, and fall on whole seconds of the clock, so that a thousand settled
containers wake nobody more often than once a second. The ages at which use is told are met. Ten thousand of them get no more attention together than 1,500 do.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import islice
from typing import Final

__all__ = ("Attention",)

_SECOND: Final = 1_000_000_000
# Until what age, and at what beat.
_FADING: Final = (
    (60 * _SECOND, _SECOND),
    (300 * _SECOND, 5 * _SECOND),
    (1800 * _SECOND, 30 * _SECOND),
)
# After its first instruction: of one that lives for less than a second, and is gone before its last
# look (systemd removes the cgroup as soon as it is empty), this is all that is ever known.
_EARLY_NS: Final = (_SECOND // 20, _SECOND // 5, _SECOND // 2)
_ROUSED_NS: Final = 10 * _SECOND
_PARTS: Final = 1499  # primes: whatever serials there are, they are spread
_STRIDE: Final = 619
_SLOW_NS: Final = 30 * _SECOND  # from this beat on, on whole seconds
# Of settled containers, 25 looks a second: of 0.3 ms each, 0.75 % of a core (docs/performance.md).
_APART_NS: Final = _SECOND // 25
_FOLLOWED: Final = 256  # at once: no terminal has more rows


class _Subject:
    __slots__ = ("born_ns", "due_ns", "early_ns", "part", "roused_ns")

    def __init__(self, born_ns: int, serial: int) -> None:
        self.born_ns = born_ns
        self.part = serial * _STRIDE % _PARTS  # of a slow beat: not all at once
        self.due_ns = 0
        self.early_ns: tuple[int, ...] = ()
        self.roused_ns: int | None = None


class Attention:
    """Containers by serial. *settled_ns*: the beat of those that are old; *ages_ns* are met, too."""

    def __init__(self, settled_ns: int, ages_ns: tuple[int, ...] = ()) -> None:
        self._settled_ns, self._ages_ns = settled_ns, tuple(sorted(ages_ns))
        self._subjects: dict[int, _Subject] = {}
        self._followed: frozenset[int] = frozenset()
        self._follow_ns = settled_ns
        self._theirs = False  # every second look is, if one of them is due
        self._heap: list[
            tuple[int, int]
        ] = []  # due, serial; also of those that are not due any more

    def __len__(self) -> int:
        return len(self._subjects)

    def add(self, serial: int, born_ns: int, now_ns: int) -> None:
        """It is there: the first look is a second after its birth, or now, if that is over."""
        self._subjects[serial] = _Subject(born_ns, serial)
        self._plan(serial, max(now_ns, born_ns + _SECOND))

    def drop(self, serial: int) -> None:
        self._subjects.pop(serial, None)
        if len(self._heap) > 2 * len(self._subjects) + 64:
            self._heap = [(each.due_ns, one) for one, each in self._subjects.items()]
            heapq.heapify(self._heap)

    def started(self, serial: int, now_ns: int) -> None:
        """Its first instruction: one that lives shortly is seen at least once."""
        if (subject := self._subjects.get(serial)) is not None:
            subject.early_ns = tuple(now_ns + early_ns for early_ns in _EARLY_NS)
            self._plan(serial, self._next(serial, subject, now_ns))

    def rouse(self, serial: int, now_ns: int) -> None:
        """Something happened to it: look more often for a while."""
        if (subject := self._subjects.get(serial)) is not None:
            subject.roused_ns = now_ns
            self._plan(serial, self._next(serial, subject, now_ns))

    def follow(self, serials: Iterable[int], beat_ns: int, now_ns: int) -> None:
        """
        Look at these every *beat_ns* or more often, until the next call; the newcomers now.

        At most 256 of them.
        """
        before, self._followed = self._followed, frozenset(islice(serials, _FOLLOWED))
        self._follow_ns = beat_ns
        for serial in self._followed - before:
            if serial in self._subjects:
                self._plan(serial, now_ns)

    def due(self, now_ns: int, most: int) -> list[int]:
        """
        Those to be looked at now, the longest due first; their next look is planned.

        Where there are too many, those that are followed need not wait, and take half of the looks.
        """
        due: list[int] = []
        while len(due) < most and (serial := self._first(now_ns)) is not None:
            due.append(serial)
            self._plan(serial, self._next(serial, self._subjects[serial], now_ns))
        return due

    def _first(self, now_ns: int) -> int | None:
        self._theirs = not self._theirs
        for serial in self._followed if self._theirs else ():
            subject = self._subjects.get(serial)
            if subject is not None and subject.due_ns <= now_ns:
                return serial
        while self._heap and self._heap[0][0] <= now_ns:
            due_ns, serial = heapq.heappop(self._heap)
            subject = self._subjects.get(serial)
            if subject is not None and subject.due_ns == due_ns:
                return serial  # others have gone, or were planned anew
        return None

    def next_ns(self) -> int | None:
        """When somebody is due; None: nobody is there. It may be somebody who has gone."""
        return self._heap[0][0] if self._heap else None

    def _plan(self, serial: int, due_ns: int) -> None:
        subject = self._subjects[serial]
        if subject.due_ns != due_ns:
            subject.due_ns = due_ns
            heapq.heappush(self._heap, (due_ns, serial))

    def _next(self, serial: int, subject: _Subject, now_ns: int) -> int:
        age_ns = max(0, now_ns - subject.born_ns)
        beat_ns = self._beat(subject, now_ns, age_ns)
        if serial in self._followed:
            beat_ns = min(beat_ns, self._follow_ns)
        if beat_ns < _SLOW_NS:
            due_ns = subject.born_ns + (age_ns // beat_ns + 1) * beat_ns
        else:
            shift_ns = beat_ns * subject.part // _PARTS
            due_ns = ((now_ns + shift_ns) // beat_ns + 1) * beat_ns - shift_ns
            due_ns = -(-due_ns // _SECOND) * _SECOND
        chosen = (*subject.early_ns, *(subject.born_ns + age_ns for age_ns in self._ages_ns))
        return min([due_ns, *(at_ns for at_ns in chosen if now_ns < at_ns)])

    def _beat(self, subject: _Subject, now_ns: int, age_ns: int) -> int:
        roused_ns = subject.roused_ns
        if roused_ns is not None and 0 <= now_ns - roused_ns < _ROUSED_NS:
            return _SECOND
        settled_ns = max(self._settled_ns, len(self._subjects) * _APART_NS)
        beats = (beat_ns for until_ns, beat_ns in _FADING if age_ns < until_ns)
        return min(next(beats, settled_ns), settled_ns)
