"""`ctrwatch top`: a watch of what containers use, as a live table, a table once, or JSON."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from ctrwatch.app import Heard, Watch, open_sensor
from ctrwatch.commands.table import print_table
from ctrwatch.config import Settings
from ctrwatch.core.board import Board, Row
from ctrwatch.core.columns import Layout, cells, fit, view
from ctrwatch.core.fitting import cell_len
from ctrwatch.core.frame import frame, line
from ctrwatch.core.text import escaped
from ctrwatch.errors import HostError, InputError
from ctrwatch.event import ContainerEvent
from ctrwatch.outputs.lines import LineOutput
from ctrwatch.privileges import READING, keep
from ctrwatch.sensor.host import boot_clock_ns, read_host, wall_offset_ns
from ctrwatch.sensor.hostuse import HostLooks

if TYPE_CHECKING:
    from ctrwatch.commands.top_app import TopApp

__all__ = ("Asked", "run")

_APART_S: Final = 1.0  # between the two looks of --once
_WORDS: Final = 20  # of the log, kept until the terminal is free again
_END_S: Final = 3  # for the terminal to be restored; one that hangs is not waited for longer


class Asked(NamedTuple):
    """The options, as they were given."""

    once: bool = False
    as_json: bool = False
    sort: str = "age"
    reverse: bool = False
    text: str = ""
    where: str | None = None
    limit: int | None = None
    every_s: float = 2.0
    mouse: bool = True


def run(settings: Settings, asked: Asked) -> int:
    """
    The exit code.

    Raises InputError where there is no terminal and nothing else is asked for, HostError where
    this host can't be watched.
    """
    if asked.once:
        return asyncio.run(_once(settings, asked))
    if asked.as_json:
        return asyncio.run(_lines(settings, asked))
    if not all(os.isatty(number) for number in (0, 1, 2)):
        raise InputError(
            "top: standard input, output and error must be a terminal; for a script give --once,"
            " --json, or both"
        )
    return asyncio.run(_table(settings, asked))


class _Scene:
    """A watch with a board, and the host's own use."""

    def __init__(self, settings: Settings, asked: Asked, *, live: bool) -> None:
        """Live ones hear of births and ends. Gives up privileges: before the first thread."""
        self.asked, self.host = asked, read_host()
        self.host_look = HostLooks().look
        self.board = Board(wall_offset_ns, _wanted(asked.where))
        self.changed: Callable[[], None] = lambda: None
        sensor = open_sensor(self.host, settings) if live else None
        with contextlib.suppress(OSError):  # too many privileges are better than no table
            keep(READING | (sensor.capabilities if sensor is not None else frozenset()))
        self.watch = Watch(settings, self.host, sensor, self._heard)

    def _heard(self, heard: Heard) -> None:
        if self.board.heard(heard, boot_clock_ns()):
            self.changed()

    def rows(self) -> Sequence[Row]:
        now_ns, asked = boot_clock_ns(), self.asked
        self.board.tidy(now_ns)
        rows = view(self.board, now_ns, sort=asked.sort, reverse=asked.reverse, text=asked.text)
        return rows[: asked.limit]

    def line(self, rows: Sequence[Row]) -> bytes:
        """The JSON of a moment."""
        whole = frame(
            self.board,
            rows,
            *self.host_look(),
            host=self.host.name,
            now_ns=boot_clock_ns(),
            offset_ns=wall_offset_ns(),
        )
        return escaped(line(whole)) if sys.stdout.isatty() else line(whole)

    def follow(self, serials: Sequence[int]) -> None:
        if (meter := self.watch.meter) is not None:
            meter.follow(serials, int(self.asked.every_s * 1e9))

    async def sweep(self) -> None:
        if (meter := self.watch.meter) is not None:
            await meter.sweep()


def _wanted(where: str | None) -> Callable[[ContainerEvent], bool]:
    if where is None:
        return lambda _: True
    from ctrwatch.commands.verdicts import Where

    return Where(where).holds


async def _beside(watch: Watch, *works: Coroutine[Any, Any, object]) -> None:
    """Run *works* beside the watch, until one of all ends. Raises what one has raised."""
    tasks = [asyncio.create_task(watch.run(), name="watch"), *map(asyncio.create_task, works)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:  # not in a group, which would wrap what they raise
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


# --- for scripts --------------------------------------------------------------------------


async def _once(settings: Settings, asked: Asked) -> int:
    scene = _Scene(settings, asked, live=False)

    async def work() -> None:
        await scene.watch.caught_up.wait()
        scene.host_look()
        await scene.sweep()
        await asyncio.sleep(_APART_S)
        await scene.sweep()
        rows = scene.rows()
        with _enough():
            if asked.as_json:
                sys.stdout.buffer.write(scene.line(rows))
            else:
                _print(rows)

    await _beside(scene.watch, work())
    return 0


@contextlib.contextmanager
def _enough() -> Iterator[None]:
    """A reader that has enough is no failure."""
    with contextlib.suppress(BrokenPipeError):
        yield
        sys.stdout.flush()


def _print(rows: Sequence[Row]) -> None:
    """As wide as the terminal; whole, where there is none."""
    terminal = sys.stdout.isatty()
    without = () if any(row.pod_name for row in rows) else ("pod",)
    layout = fit(shutil.get_terminal_size().columns, without) if terminal else _whole(without)
    now_ns = boot_clock_ns()
    table = [tuple(each.title for each, _ in layout.columns)]
    table += [tuple(piece.strip() for piece in cells(row, layout, now_ns)) for row in rows]
    print_table(table, measure=cell_len, gap=1 if terminal else 2)


def _whole(without: Sequence[str]) -> Layout:
    layout = fit(1 << 10, without)
    return Layout(tuple((each, max(width, each.most)) for each, width in layout.columns))


async def _lines(settings: Settings, asked: Asked) -> int:
    scene = _Scene(settings, asked, live=True)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    # A reader that is slow never holds up the watch, nor its end.
    output = LineOutput(1, on_failure=lambda: loop.call_soon_threadsafe(ended.set))

    async def work() -> None:
        await scene.watch.caught_up.wait()
        await scene.sweep()
        while True:
            rows = scene.rows()
            scene.follow([row.serial for row in rows if row.serial is not None])
            output.write(scene.line(rows))
            await asyncio.sleep(asked.every_s)

    await _beside(scene.watch, work(), ended.wait())  # of thousands the first looks take seconds
    output.close()
    return _ending(output)


def _ending(output: LineOutput) -> int:
    """The exit code; a reader that has enough is no failure."""
    if output.failure is not None:
        if output.failure.errno == errno.EPIPE:
            return 0
        raise HostError(f"the output can't be written: {output.failure.strerror}")
    return 1 if output.dropped else 0


# --- on a terminal ------------------------------------------------------------------------


async def _table(settings: Settings, asked: Asked) -> int:
    from ctrwatch.commands.top_app import Behind, TopApp

    scene = _Scene(settings, asked, live=True)
    with _quiet() as said:
        behind = Behind(
            scene.board,
            scene.host.name,
            boot_clock_ns,
            scene.host_look,
            scene.watch.last_told,
            scene.follow,
            said,
        )
        app = TopApp(
            behind,
            sort=asked.sort,
            reverse=asked.reverse,
            text=asked.text,
            limit=asked.limit,
            every_s=asked.every_s,
        )
        scene.changed = app.changed

        async def work() -> int:
            settling = asyncio.create_task(_settle(scene))
            try:
                with _ending_by_signals(app):
                    await app.run_async(mouse=asked.mouse)
            finally:
                settling.cancel()
            return app.return_code or 0

        return await _around(scene.watch, app, work())


async def _around(watch: Watch, app: TopApp, work: Coroutine[Any, Any, int]) -> int:
    """The app ends first, and gives the terminal back, also where the watch fails."""
    theirs: Exception | None = None

    async def guarded() -> None:
        nonlocal theirs
        try:
            await watch.run()
        except Exception as error:  # noqa: BLE001 - raised again below
            theirs = error
            app.exit()

    running = asyncio.create_task(guarded(), name="watch")
    try:
        code = await work
    finally:
        running.cancel()
        await asyncio.wait((running,))
    if theirs is not None:
        raise theirs
    return code


async def _settle(scene: _Scene) -> None:
    """
    Everybody's first figures; then a look is enough for a rate, and the meter knows who is seen.

    And what start-up made stays: no round of the collector shall look through it. See events.py.
    """
    await scene.watch.caught_up.wait()
    await scene.sweep()
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _ending_by_signals(app: TopApp) -> Iterator[None]:
    """
    SIGINT, SIGTERM and SIGHUP end it as `q` does.

    A terminal that has gone, or hangs, takes nothing any more, and who writes to it waits: so a
    handler of Python's own, which runs all the same, and an alarm behind it.
    """
    loop = asyncio.get_running_loop()

    def end(_number: int, _frame: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, _END_S)
        loop.call_soon_threadsafe(app.exit)

    def give_up(_number: int, _frame: object) -> NoReturn:
        os._exit(1)

    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), end)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, give_up)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class _Kept(logging.Handler):
    """The log's last words, which would tear the table; they come when it has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=_WORDS)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def last(self) -> str:
        return self.records[-1].getMessage() if self.records else ""


@contextlib.contextmanager
def _quiet() -> Iterator[Callable[[], str]]:
    """Nobody but the table writes to the terminal; gives the log's last word."""
    root, kept = logging.getLogger(), _Kept()
    before, root.handlers = root.handlers, [kept]
    try:
        yield kept.last
    finally:
        root.handlers = before
        for record in kept.records:
            root.handle(record)
