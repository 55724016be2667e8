"""
Questions to sources of evidence: each under a deadline, none in another's way.

The planning (whom, when, how often) is pure and stands in core/story.py. Here the
questions are put. A source that hangs, refuses or dies slows only itself; what it did
is an answer, and is said once in the log, and once more when it is well again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from ctrwatch.core.story import Ask
from ctrwatch.model import Answer, Unavailable
from ctrwatch.ports import Source

__all__ = ("Enricher",)

log = logging.getLogger(__name__)

# The slowest honest answer measured is 40 ms (containerd, cold, 2 cores under load).
DEADLINE_S: Final = 0.5
# Questions to one source at a time. More than a daemon has threads for only queue there.
_AT_ONCE: Final = 16


class Enricher:
    """Puts questions; answers come back through *reply*, always exactly one for each."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        reply: Callable[[int, str, Answer], None],
    ) -> None:
        self._sources, self._reply = sources, reply
        self._free = {name: asyncio.Semaphore(_AT_ONCE) for name in sources}
        self.unwell: dict[str, str] = {}  # source: why

    async def ask(self, ask: Ask) -> None:
        if ask.pause_ns:
            await asyncio.sleep(ask.pause_ns / 1e9)
        source = self._sources[ask.source]
        async with self._free[ask.source]:
            answer = await self._answer(source, ask)
        self._note(ask.source, answer)
        self._reply(ask.serial, ask.source, answer)

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
        if isinstance(answer, Unavailable):
            if name not in self.unwell:
                self.unwell[name] = answer.why
                log.warning("%s; it is asked again with growing pauses", answer.why)
        elif self.unwell.pop(name, None):
            log.info("%s answers again", name)

    async def close(self) -> None:
        for source in self._sources.values():
            await source.close()
