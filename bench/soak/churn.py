"""Births and ends without a pause: what is started, how long it lives, and what becomes of it.

All that is decided by chance comes from the seed; what meets what on the host does not.
"""

from __future__ import annotations

import heapq
import random
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.soak.engines import Engine
from bench.soak.verdict import Start
from tests.live.daemons import BedError

_RECORDS: Final = 53  # of each runtime, of containers that ended and stay: its lists stay short
_TRIES: Final = 5  # to remove one, while daemons come and go
_PAUSE_S: Final = 0.8  # in the mean, between two things that one worker does
_WORKERS: Final = 2  # of each runtime
_FAILED_S: Final = 0.3  # after a failure, until its daemon is back
FAILURES = (BedError, subprocess.TimeoutExpired)


@dataclass
class Plan:
    """One container's: *restarts* times it is started again after its end, and then it may stay."""

    name: str
    life_s: float
    keep: bool
    restarts: int = 0
    stays: bool = False
    container: str = ""
    tries: int = 0


class Garden:
    """`garden.begin()`, later `garden.end()`; one for each runtime. `starts` and `removed_ns` are the truth."""

    def __init__(
        self, engine: Engine, prefix: str, seed: int, note: Callable[[Start], None]
    ) -> None:
        """*note* hears of each start, in any thread."""
        self.engine, self._prefix, self._seed, self._heard = engine, prefix, seed, note
        self.starts: list[Start] = []
        self.removed_ns: dict[str, int] = {}
        self.failed: deque[str] = deque(maxlen=7)  # what clients said at last, for a look at it
        self.broken: BaseException | None = None
        self._due: list[tuple[float, int, Plan]] = []
        self._records: deque[Plan] = deque()
        self._made = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._workers = [
            threading.Thread(target=self._work, args=(number,)) for number in range(_WORKERS)
        ]

    def begin(self) -> None:
        for worker in self._workers:
            worker.start()

    def end(self) -> None:
        """Returns when the last command has: at most a minute."""
        self._ended.set()
        for worker in self._workers:
            if worker.ident is not None:
                worker.join()

    def sure(self) -> int:
        return sum(start.sure for start in self.starts)

    def _work(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {self.engine.name} {number}")
        try:
            while not self._ended.wait(chance.expovariate(1 / _PAUSE_S)):
                plan = self._next()
                if plan is None:
                    self._give_birth(chance)
                elif plan.restarts:
                    self._start_again(plan)
                else:
                    self._remove(plan)
        except BaseException as error:  # the thread's end is the soak's: the main one looks here
            self.broken = error
            raise

    def _next(self) -> Plan | None:
        with self._lock:
            if self._due and self._due[0][0] <= time.monotonic():
                return heapq.heappop(self._due)[2]
            if len(self._records) > _RECORDS:
                return self._records.popleft()
        return None

    def _later(self, plan: Plan, delay_s: float) -> None:
        with self._lock:
            self._made += 1  # two plans of one time are never compared
            heapq.heappush(self._due, (time.monotonic() + delay_s, self._made, plan))

    def _give_birth(self, chance: random.Random) -> None:
        with self._lock:
            self._made += 1
            name = f"{self._prefix}-{self.engine.name}-{self._made}"
        plan = planned(chance, name)
        begun_ns = time.time_ns()
        try:
            plan.container = self.engine.start(name, plan.life_s, keep=plan.keep)
            sure = True
        except FAILURES as error:
            sure = False
            self._note(error)
            plan.container = self.engine.id_of(name)
        self._started(plan, begun_ns, sure=sure, again=False)
        if not sure:
            plan.restarts, plan.stays = 0, False
            self._later(plan, 2)  # whatever there is of it
            self._ended.wait(_FAILED_S)
        elif plan.keep:
            self._after(plan)

    def _start_again(self, plan: Plan) -> None:
        begun_ns = time.time_ns()
        plan.restarts -= 1
        try:
            self.engine.again(plan.name)
            sure = True
        except FAILURES as error:
            sure = False
            self._note(error)
        self._started(plan, begun_ns, sure=sure, again=True)
        self._after(plan)

    def _after(self, plan: Plan) -> None:
        if plan.stays and not plan.restarts:
            with self._lock:
                self._records.append(plan)
        else:
            self._later(plan, plan.life_s + 0.5)

    def _remove(self, plan: Plan) -> None:
        if plan.container:
            self.removed_ns.setdefault(plan.container, time.time_ns())
        try:
            self.engine.remove(plan.name)
        except FAILURES as error:
            plan.tries += 1
            if plan.tries < _TRIES and "o such container" not in str(error):
                self._later(plan, 2)

    def _started(self, plan: Plan, begun_ns: int, *, sure: bool, again: bool) -> None:
        start = Start(
            self.engine.name, plan.container, begun_ns, time.time_ns(),
            sure=sure, life_s=plan.life_s, kept=plan.keep, again=again,
        )  # fmt: skip
        self.starts.append(start)
        self._heard(start)

    def _note(self, error: Exception) -> None:
        took = "" if isinstance(error, BedError) else " (no end)"
        self.failed.append(f"{self.engine.name}{took}: {str(error)[-300:]}")


def planned(chance: random.Random, name: str) -> Plan:
    """Most live for a moment, some for minutes; of the short ones some are started again, some stay."""
    kind = chance.choices(("moment", "seconds", "minutes"), (60, 34, 6))[0]
    if kind == "minutes":
        return Plan(name, chance.uniform(60, 300), keep=True)
    life_s = 0.1 if kind == "moment" else chance.uniform(0.5, 8)
    if kind == "moment" and chance.random() < 0.4:
        return Plan(name, life_s, keep=False)
    restarts = chance.choice((1, 2)) if chance.random() < 0.25 else 0
    return Plan(name, round(life_s, 1), keep=True, restarts=restarts, stays=chance.random() < 0.3)


def all_starts(gardens: Sequence[Garden]) -> list[Start]:
    starts = [start for garden in gardens for start in garden.starts]
    return sorted(starts, key=lambda start: start.begun_ns)


def removed(gardens: Sequence[Garden]) -> dict[str, int]:
    return {
        container: at_ns for garden in gardens for container, at_ns in garden.removed_ns.items()
    }
