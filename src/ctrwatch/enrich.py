"""
Questions to sources of evidence: each under a deadline, none in another's way.

The planning (whom, when, how often) is pure and stands in core/questions.py. Here the
questions are put. A source that hangs, refuses or dies slows only itself; what it did
is an answer. Of daemons that are away evidence/asking.py keeps count, and logs; what else
can't be answered is one container's matter, and is logged now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from weakref import WeakValueDictionary

from ctrwatch.core.story import Ask
from ctrwatch.core.tally import Asked
from ctrwatch.model import Answer, Unavailable
from ctrwatch.ports import Source

__all__ = ("Enricher",)

log = logging.getLogger(__name__)

# The slowest honest answer measured is 40 ms (containerd, cold, 2 cores under load).
DEADLINE_S: Final = 0.5
# Questions to one source at a time, about one user's containers: what hangs may be his doing.
# More than a daemon has threads for only queue there.
_AT_ONCE: Final = 16
_QUIET_S: Final = 60.0  # between two words in the log about one source


class Enricher:
    """
    Puts questions; answers come back through *reply*, always exactly one for each.

    `asked` counts them by source.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        reply: Callable[[int, str, Answer], None],
    ) -> None:
        self._sources, self._reply = sources, reply
        self.asked: Final[Mapping[str, Asked]] = {name: Asked() for name in sources}
        self._free: WeakValueDictionary[tuple[str, int], asyncio.Semaphore] = WeakValueDictionary()
        self._quiet_until: dict[str, float] = {}  # source: loop time
        self._backs: dict[str, asyncio.Event] = {}  # of sources that somebody pauses for

    async def ask(self, ask: Ask) -> None:
        if ask.pause_ns:
            await self._pause(ask)
        source = self._sources[ask.source]
        turn = ask.source, ask.subject.uid
        asked = self.asked[ask.source]
        asked.waiting += 1
        try:
            async with self._free.setdefault(turn, asyncio.Semaphore(_AT_ONCE)):
                answer = await self._timed(asked, self._answer(source, ask))
        finally:
            asked.waiting -= 1
        self._note(ask.source, answer)
        self._reply(ask.serial, ask.source, answer)

    def back(self, source: str) -> None:
        """A daemon of it is back: who pauses before asking asks now."""
        if (event := self._backs.pop(source, None)) is not None:
            event.set()

    async def _pause(self, ask: Ask) -> None:
        back = self._backs.setdefault(ask.source, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ask.pause_ns / 1e9):
                await back.wait()

    async def _timed(self, asked: Asked, answering: Awaitable[Answer]) -> Answer:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        answer = await answering
        asked.answered(answer, loop.time() - began_s)
        return answer

    async def _answer(self, source: Source, ask: Ask) -> Answer:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await source.ask(ask.subject)
        except TimeoutError:
            return Unavailable(f"{source.name}: no answer in {DEADLINE_S} s")
        except Exception as error:  # a source's own fault must not end the watch
            log.exception("%s: a question failed; please report this", source.name)
            return Unavailable(f"{source.name}: {type(error).__name__}: {error}")

    def _note(self, name: str, answer: Answer) -> None:
        if isinstance(answer, Unavailable) and not answer.away:
            now_s = asyncio.get_running_loop().time()
            if now_s >= self._quiet_until.get(name, now_s):
                self._quiet_until[name] = now_s + _QUIET_S
                log.warning("%s; it is asked again with growing pauses", answer.why)
