"""
Feeds a boundary, and sees that only a value or one of its own errors comes out, in time.

The time is that of the processor, so that a busy machine is no finding.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import ctrwatch
from tests.fuzz.boundary import Boundary, Case
from tests.fuzz.mutate import Mutator

__all__ = ("Finding", "Run", "run")

_SLOW_S: Final = 1.0  # for one input; the slowest honest one, 70 KB of text, takes 10 ms
_ENDLESS_S: Final = 30.0  # for _BATCH of them: then one does not end
_BATCH: Final = 256
_TRACED: Final = 101  # one input in so many
_KEPT: Final = 512  # seeds that were found on the way; the oldest of them go
_FINDINGS: Final = 20  # of different kinds; more say nothing new
_PACKAGE: Final = str(Path(ctrwatch.__file__).parent)


class Finding(NamedTuple):
    case: Case
    what: str  # exception and place
    details: str


class Run(NamedTuple):
    inputs: int
    seconds: float
    slowest_ms: float
    outcomes: int  # different ones
    lines: int  # of ctrwatch that were reached, as far as was traced
    findings: list[Finding]


class _Endless(BaseException):
    """Not an Exception: nothing that is fed may swallow it."""


def run(boundary: Boundary, *, inputs: int, seconds: float, seed: int) -> Run:
    """Feed *inputs*, or for so many *seconds*, whichever ends first."""
    mutator, seeds = Mutator(seed), list(boundary.seeds)
    feeding = _Feeding(boundary)
    started_s = time.monotonic()
    for case in boundary.seeds:
        feeding.feed(case, traced=True)
    fed = 0
    with _alarmed():
        while fed < inputs and time.monotonic() - started_s < seconds:
            signal.setitimer(signal.ITIMER_PROF, _ENDLESS_S)
            for _ in range(min(_BATCH, inputs - fed)):
                fed += 1
                case = boundary.worse(mutator, seeds)
                if feeding.feed(case, traced=fed % _TRACED == 0) and _size(case) <= boundary.kept:
                    seeds.append(case)
            if len(seeds) > len(boundary.seeds) + _KEPT:
                del seeds[len(boundary.seeds) : -_KEPT]
    return Run(
        fed,
        time.monotonic() - started_s,
        feeding.slowest_s * 1000,
        len(feeding.outcomes),
        len(feeding.lines),
        list(feeding.findings.values())[:_FINDINGS],
    )


class _Feeding:
    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary
        self.outcomes: set[object] = set()
        self.lines: set[tuple[object, int]] = set()
        self.findings: dict[str, Finding] = {}
        self.slowest_s = 0.0

    def feed(self, case: Case, *, traced: bool) -> bool:
        """Whether it led to something new."""
        boundary, lines = self._boundary, len(self.lines)
        started_s = time.thread_time()
        try:
            if traced:
                with self._traced():
                    outcome = boundary.feed(case)
            else:
                outcome = boundary.feed(case)
        except boundary.refuses as error:
            outcome = type(error), str(error)[:12]
        except (Exception, _Endless) as error:  # noqa: BLE001 - this is what is looked for
            outcome = None
            self._found(case, error)
        took_s = time.thread_time() - started_s
        if not traced:
            self.slowest_s = max(self.slowest_s, took_s)
            if took_s > _SLOW_S:
                self._found(case, TimeoutError(f"it took {took_s:.1f} s"))
        is_new = outcome not in self.outcomes
        self.outcomes.add(outcome)
        return is_new or len(self.lines) > lines

    def _found(self, case: Case, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if frame.filename.startswith(_PACKAGE)] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        what = f"{type(error).__name__} at {place}: {str(error)[:60]}"
        self.findings.setdefault(
            f"{type(error).__name__} {place}",
            Finding(case, what, "".join(traceback.format_exception(error))),
        )

    @contextlib.contextmanager
    def _traced(self) -> Iterator[None]:
        lines = self.lines

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            lines.add((frame.f_code, frame.f_lineno))
            return line

        def call(frame: FrameType, event: str, argument: Any) -> Any:
            return line if frame.f_code.co_filename.startswith(_PACKAGE) else None

        before = sys.gettrace()
        sys.settrace(call)
        try:
            yield
        finally:
            sys.settrace(before)


@contextlib.contextmanager
def _alarmed() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise _Endless(f"it does not end within {_ENDLESS_S:g} s")

    before = signal.signal(signal.SIGPROF, end)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _size(case: Case) -> int:
    if isinstance(case, tuple | list):
        return sum(map(_size, case))
    return len(case) if isinstance(case, str | bytes) else 1
