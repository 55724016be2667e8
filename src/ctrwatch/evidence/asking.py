"""
Questions to daemons: several sockets, a deadline for each, and what is done when one fails.

A daemon that refuses, hangs, or speaks another protocol is away. From then on nobody waits
for it: one task asks it for a sign of life, after growing pauses, and every question that
comes meanwhile is answered at once. One that answers, but nothing that can be read, is still
asked for each birth, for that may be one container's matter; and one task asks again.

When it answers, the chain is told (`Back`), and asks again for each container that still
misses something: so a thousand of them cost a daemon that fails no more than one. A socket
that is made anew, which lookout.py hears of, is tried at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

from ctrwatch.core.tally import State
from ctrwatch.core.text import clean
from ctrwatch.model import Answer, Found, NotFound, Unavailable

__all__ = ("ANSWER_S", "Daemons", "Unanswered", "first_found", "nobody")

log = logging.getLogger(__name__)

ANSWER_S: Final = 0.4  # ten times the slowest honest answer measured; less than enrich.DEADLINE_S
_FIRST_PAUSE_S: Final = 0.05  # then doubled …
_LONGEST_PAUSE_S: Final = 10.0
_GIVE_UP_S: Final = 600.0  # an upgrade takes less; after that the next question is the try
_MOST: Final = 64  # sockets remembered: a command line can name any number of them
_QUIET_S: Final = 60.0  # between two words in the log about one that comes and goes
_SAID: Final = 300  # characters of what is wrong with a daemon


class Unanswered(Exception):  # noqa: N818 - it says what the question is
    """
    The daemon refused, broke off, or sent what can't be read. Its text is a clause.

    *away*: it would not answer another question either; else it may be this one's matter.
    """

    def __init__(self, why: str, *, away: bool = False) -> None:
        super().__init__(why)
        self.away = away


def nobody(source: str) -> None:
    """For who does not want to know when a source is back."""


Question = Callable[[str], Awaitable[object]]


class _Daemon:
    """How it stands with one of them."""

    why = ""  # what is wrong; "": it answers, as far as is known
    away = False
    probe: Question | None = None  # what is asked until it is answered
    pause_s = _FIRST_PAUSE_S
    task: asyncio.Task[None] | None = None  # that asks
    logged = False
    quiet_until_s = 0.0


class Daemons:
    """
    The daemons of the source *name*, by socket.

    *greet* asks the one at a socket for a sign of life; it raises `Unanswered`. *back* is
    called with *name* when one is there that was not, or did not answer, before.
    """

    def __init__(self, name: str, greet: Question, back: Callable[[str], None]) -> None:
        self._name, self._greet, self._back = name, greet, back
        self._daemons: dict[str, _Daemon] = {}

    async def ask(
        self, sockets: Iterable[str], question: Callable[[str], Awaitable[Answer]]
    ) -> Answer:
        """Put *question* to each socket at once; it may raise `Unanswered`. See `first_found`."""
        sockets = [*sockets]
        refusals = [why for socket in sockets if (why := self._away(socket)) is not None]
        if refusals and len(refusals) == len(sockets):
            return refusals[0]
        return await first_found(self._ask(socket, question) for socket in sockets)

    def appeared(self, socket: str) -> None:
        """A socket was made there: whoever made it is greeted now."""
        daemon = self._known(socket)
        daemon.probe, daemon.pause_s = self._greet, _FIRST_PAUSE_S
        if daemon.task is not None:
            daemon.task.cancel()
        daemon.task = asyncio.create_task(self._await(socket, daemon, 0.0), name=self._name)

    def forget(self, socket: str) -> None:
        """Nobody is to ask there any more."""
        if (daemon := self._daemons.pop(socket, None)) is not None and daemon.task is not None:
            daemon.task.cancel()

    def states(self, present: Iterable[str]) -> Counter[State]:
        """
        How many daemons are in which state: those at the sockets that are *present*, and those
        whose socket is gone and that are still tried. One that was never asked answers.
        """
        tried = (at for at, daemon in self._daemons.items() if daemon.why and daemon.task)
        states: Counter[State] = Counter()
        for socket in {*present, *tried}:
            daemon = self._daemons.get(socket)
            if daemon is None or not daemon.why:
                states["answering"] += 1
            else:
                states["away" if daemon.away else "unreadable"] += 1
        return states

    async def close(self) -> None:
        tasks = [daemon.task for daemon in self._daemons.values() if daemon.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._daemons.clear()

    # --- one daemon ---------------------------------------------------------------------

    async def _ask(self, socket: str, question: Callable[[str], Awaitable[Answer]]) -> Answer:
        if (refusal := self._away(socket)) is not None:
            return refusal
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await question(socket)
        except TimeoutError:
            return self._fails(socket, Unanswered(_silence(), away=True), question)
        except Unanswered as error:
            return self._fails(socket, error, question)
        if (daemon := self._daemons.get(socket)) is not None:
            daemon.pause_s = _FIRST_PAUSE_S
            if daemon.why:
                self._answers(socket, daemon)
        return answer

    def _away(self, socket: str) -> Unavailable | None:
        """It is known not to answer, and is asked for a sign of life; None: it may be asked."""
        daemon = self._daemons.get(socket)
        if daemon is None or not daemon.away or daemon.task is None:
            return None
        return self._unavailable(socket, daemon.why)

    def _unavailable(self, socket: str, why: str) -> Unavailable:
        return Unavailable(clean(f"{self._name}: {socket}: {why}", _SAID), away=True)

    def _fails(self, socket: str, error: Unanswered, question: Question) -> Unavailable:
        daemon, answer = self._known(socket), self._unavailable(socket, str(error))
        now_s = asyncio.get_running_loop().time()
        if not daemon.why and now_s >= daemon.quiet_until_s:
            daemon.logged, daemon.quiet_until_s = True, now_s + _QUIET_S
            log.warning("%s; it is tried again with growing pauses", answer.why)
        daemon.why, daemon.away = str(error), daemon.away or error.away
        daemon.probe = self._greet if daemon.away else question
        if daemon.task is None:
            task = self._await(socket, daemon, daemon.pause_s)
            daemon.task = asyncio.create_task(task, name=self._name)
        return answer

    def _answers(self, socket: str, daemon: _Daemon) -> None:
        if daemon.logged:
            log.warning("%s answers again", clean(f"{self._name}: {socket}", _SAID))
        if daemon.task is not None and daemon.task is not asyncio.current_task():
            daemon.task.cancel()
        daemon.why, daemon.away, daemon.task, daemon.logged = "", False, None, False
        self._back(self._name)

    async def _await(self, socket: str, daemon: _Daemon, pause_s: float) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _GIVE_UP_S
        try:
            while loop.time() < until_s:
                await asyncio.sleep(pause_s)
                # Only an answer to a birth's question makes the pauses short again.
                pause_s, daemon.pause_s = daemon.pause_s, min(2 * daemon.pause_s, _LONGEST_PAUSE_S)
                probe = daemon.probe or self._greet
                try:
                    async with asyncio.timeout(ANSWER_S):
                        await probe(socket)
                except TimeoutError:
                    self._fails(socket, Unanswered(_silence(), away=True), probe)
                except Unanswered as error:
                    self._fails(socket, error, probe)
                else:
                    self._answers(socket, daemon)
                    return
        finally:
            if daemon.task is asyncio.current_task():
                daemon.task = None

    def _known(self, socket: str) -> _Daemon:
        daemon = self._daemons.setdefault(socket, _Daemon())
        if len(self._daemons) > _MOST:
            self.forget(next(iter(self._daemons)))
        return daemon


def _silence() -> str:
    return f"no answer in {ANSWER_S} s"


async def first_found(questions: Iterable[Coroutine[Any, Any, Answer]]) -> Answer:
    """
    The first `Found`; without one the first `Unavailable`, else `NotFound`.

    They are asked at the same time, so that a daemon that hangs does not hide the one
    that knows. What is still under way at the end is cancelled and waited for.
    """
    tasks = [asyncio.ensure_future(question) for question in questions]
    refusal: Answer = NotFound()
    try:
        for done in asyncio.as_completed(tasks):
            answer = await done
            if isinstance(answer, Found):
                return answer
            if isinstance(answer, Unavailable) and isinstance(refusal, NotFound):
                refusal = answer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return refusal
