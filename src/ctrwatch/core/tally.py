"""
What is counted: events that were told, questions that were answered, how the watch is.

Pure: values in, numbers out. Nothing here is spelled as a metric; outputs/metrics.py reads
it when somebody asks, so that counting costs an addition, and nothing waits for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, Literal, NamedTuple, get_args

from ctrwatch.core.describe import wall_ns
from ctrwatch.event import ContainerEvent, EventName, Status, WatchEventName
from ctrwatch.model import Answer, Found, Missing, NotFound, Runtime

__all__ = (
    "CAUSES",
    "OUTCOMES",
    "STATES",
    "Acted",
    "Asked",
    "Cause",
    "Histogram",
    "Outcome",
    "State",
    "Told",
    "Vitals",
)

Outcome = Literal["found", "not_found", "unavailable"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
# Of a daemon: `unreadable` answers, but nothing that can be read; `away` hangs, refuses or is gone.
State = Literal["answering", "unreadable", "away"]
STATES: Final[tuple[State, ...]] = get_args(State)
# Of a loss: the kernel's ring was full; a record was of another shape; the reader of the output
# was too slow, or the output failed; the journal could not be written.
Cause = Literal["kernel", "unreadable", "forgotten", "output", "journal"]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)

# Around what was measured: honest answers take 1 to 40 ms, none is waited for longer than 500.
ANSWER_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
# Births are complete after 5 to 30 ms; `--wait` is over after 2 s by default, 60 at most.
BIRTH_BOUNDS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    10,
    60,
)
# Births that have not started, or are not complete, and have not gone: 200 bytes each. With
# more of them the oldest is forgotten, and not counted when it starts or becomes complete.
_UNDECIDED: Final = 10_000


class Histogram:
    """How often something took at most so many seconds: each of the *bounds*, which ascend."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self.bounds_s: Final = bounds_s
        self.sum_s = 0.0
        self._counts = [0] * (len(bounds_s) + 1)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds

    def at_most(self) -> list[int]:
        """
        For each bound, then for all.

        >>> short = Histogram((0.5, 2.0))
        >>> for seconds in (0.1, 0.5, 1.0, 9.0): short.observe(seconds)
        >>> short.at_most()
        [2, 3, 4]
        """
        return list(accumulate(self._counts))


class Asked:
    """What one source was asked, and what it said."""

    def __init__(self) -> None:
        self.waiting = 0  # questions that are put, or wait for their turn
        self.answers: Counter[Outcome] = Counter()
        self.answer_s = Histogram(ANSWER_BOUNDS_S)

    def answered(self, answer: Answer, seconds: float) -> None:
        self.answers[_outcome(answer)] += 1
        self.answer_s.observe(seconds)


def _outcome(answer: Answer) -> Outcome:
    if isinstance(answer, Found):
        return "found"
    return "not_found" if isinstance(answer, NotFound) else "unavailable"


class _Undecided:
    """A birth that was told: when it was, and by when all of it had been told."""

    def __init__(self, born_ns: int) -> None:
        self.born_ns = born_ns
        self.complete_ns: int | None = None
        self.started = False


class Told:
    """The events that were told, counted; `add` takes each, in order. Times are wall time."""

    def __init__(self) -> None:
        self.events: Counter[EventName | WatchEventName] = Counter()
        self.births: Counter[tuple[Runtime, Status]] = Counter()
        self.existing: Counter[tuple[Runtime, Status]] = Counter()
        self.missing: Counter[Missing] = Counter()  # fields of births
        self.complete_s = Histogram(BIRTH_BOUNDS_S)  # birth to complete
        self.starts: Counter[bool] = Counter()  # whether all had been told before
        self._undecided: dict[str, _Undecided] = {}  # by the birth's id, oldest first

    def add(self, event: ContainerEvent, now_ns: int) -> None:
        """Count an *event* that left at *now_ns*."""
        self.events[event.event] += 1
        match event.event:
            case "existing_container":
                self.existing[event.runtime, event.evidence.status] += 1
            case "container_create":
                self.births[event.runtime, event.evidence.status] += 1
                self.missing.update(event.evidence.missing.values())
                self._born(event, now_ns)
            case "container_remove":
                self._undecided.pop(_birth(event), None)
            case "container_start" | "container_update":
                self._went_on(event, now_ns)

    def _born(self, event: ContainerEvent, now_ns: int) -> None:
        birth = self._undecided[event.id] = _Undecided(wall_ns(event.time))
        self._completed(birth, event, now_ns)
        if len(self._undecided) > _UNDECIDED:
            del self._undecided[next(iter(self._undecided))]

    def _went_on(self, event: ContainerEvent, now_ns: int) -> None:
        birth = self._undecided.get(_birth(event))
        if birth is None:
            return  # it was there before us
        if event.event == "container_start":
            birth.started = True
            told_ns = birth.complete_ns
            self.starts[told_ns is not None and told_ns <= wall_ns(event.time)] += 1
        self._completed(birth, event, now_ns)
        if birth.started and birth.complete_ns is not None:
            del self._undecided[_birth(event)]

    def _completed(self, birth: _Undecided, event: ContainerEvent, now_ns: int) -> None:
        if birth.complete_ns is None and event.evidence.status == "complete":
            birth.complete_ns = now_ns
            # Somebody may have set the time of day back meanwhile.
            self.complete_s.observe(max(0, now_ns - birth.born_ns) / 1e9)


def _birth(event: ContainerEvent) -> str:
    """The id of the birth that the *event* follows: its own begins with it."""
    return event.id.partition("-")[0]


class Acted(NamedTuple):
    """What was done about violations, so far."""

    enforced: Mapping[tuple[str, str], int] = {}  # by action and result
    sent: Mapping[str, int] = {}  # by the webhook
    unsent: int = 0  # wait for it
    ran: Mapping[str, int] = {}  # by `--on-violation`


class Vitals(NamedTuple):
    """How a watch is at this moment."""

    attached: bool  # it hears the kernel
    listed: bool  # the containers that were there have been looked for
    living: int
    untold: int
    losses: Mapping[Cause, int]
    asked: Mapping[str, Asked]  # by source
    daemons: Mapping[str, Mapping[State, int]]  # by source, of those that ask daemons
