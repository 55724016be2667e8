"""
SIGHUP: the file of `--config` is read again, and holds whole or not at all.

Each part of the program prepares itself, and may refuse; only when all have, all are changed,
between two events. What can only be set at the start refuses too. The output's file is opened
again in any case: a rotated log does not wait for a file that is right.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ctrwatch.app import Watch
from ctrwatch.commands.configured import Configured, settings
from ctrwatch.commands.lines import Rendering
from ctrwatch.core.configuration import KEYS, Configuration, changed
from ctrwatch.errors import InputError
from ctrwatch.outputs.lines import LineOutput, opened

if TYPE_CHECKING:
    from ctrwatch.commands.verdicts import Verdicts

__all__ = ("Part", "Prepared", "Reload", "lines_part", "policies_part", "watch_part")

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """What a part does when all others are prepared too, which can't fail; and when one refuses."""

    change: Callable[[], None]
    drop: Callable[[], None] = lambda: None


# Told what holds and what shall hold. Raises InputError, naming the key, where it can't.
Part = Callable[[Configuration, Configuration], Awaitable[Prepared]]


class Reload:
    """*say* is told in one line what has changed, *reopen* opens the output's file again."""

    def __init__(
        self,
        configured: Configured,
        parts: Sequence[Part],
        reopen: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._configured, self._parts = configured, parts
        self._reopen, self._say = reopen, say

    async def serve(self, asked: asyncio.Event) -> None:
        """Reload whenever *asked* is set, until cancelled."""
        while True:
            await asked.wait()
            asked.clear()  # who asks from now on is served once more
            await self.now()

    async def now(self) -> bool:
        """Whether the file holds; why not is in the log."""
        was_there = self._configured.is_there
        try:
            before, after = self._configured.value, await asyncio.to_thread(self._configured.read)
            keys = changed(before, after)
            _refuse(self._configured.path, keys)
            prepared = await self._prepared(before, after)
        except InputError as error:
            self._reopen()
            log.error("%s; everything stays as it was", error)  # noqa: TRY400 - a user's mistake
            return False
        for each in prepared:
            each.change()
        self._configured.value = after
        self._reopen()
        if was_there or self._configured.is_there:
            what = ", ".join(keys) or "nothing has changed"
            self._say(f"reloaded {self._configured.path}: {what}")
        return True

    async def _prepared(self, before: Configuration, after: Configuration) -> list[Prepared]:
        prepared: list[Prepared] = []
        try:
            for part in self._parts:
                prepared.append(await part(before, after))  # noqa: PERF401 - what is made is dropped
        except BaseException:
            for each in prepared:
                each.drop()
            raise
        return prepared


def _refuse(path: Path, keys: Sequence[str]) -> None:
    """Raise InputError for what can only be set at the start."""
    if fixed := [key for key in keys if KEYS[key].restart]:
        raise InputError(f"{path}: {', '.join(fixed)}: changed, and that takes a restart")


def watch_part(watch: Watch) -> Part:
    """The wait, and the daemons' sockets."""

    async def prepare(_: Configuration, after: Configuration) -> Prepared:
        wanted = settings(after)
        return Prepared(lambda: watch.reload(wanted))

    return prepare


def policies_part(verdicts: Verdicts, say: Callable[[str], None]) -> Part:
    """The policies of the command line, read again. Births that wait keep the rules they wait for."""

    async def prepare(_: Configuration, __: Configuration) -> Prepared:
        swap = await asyncio.to_thread(verdicts.read_again)

        def change() -> None:
            say(f"policies read again: {swap()} rules")

        return Prepared(change)

    return prepare


def lines_part(rendering: Rendering, output: LineOutput) -> Part:
    """The format, and where the lines go. What was told before goes where it was going."""

    async def prepare(before: Configuration, after: Configuration) -> Prepared:
        path, moves = after.output.path, after.output.path != before.output.path
        fd = await asyncio.to_thread(_open, path) if moves else -1
        terminal = path is None and sys.stdout.isatty()

        def change() -> None:
            rendering.change(after.output.format, terminal=terminal)
            if moves:
                output.turn(fd, Path(path) if path is not None else None)

        return Prepared(change, lambda: os.close(fd) if moves else None)

    return prepare


def _open(path: str | None) -> int:
    return opened(Path(path)) if path is not None else os.dup(sys.stdout.fileno())
