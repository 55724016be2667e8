"""`ctrwatch events`: a watch, its output, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from ctrwatch.app import Heard, Watch, open_sensor
from ctrwatch.commands.acting import Acting
from ctrwatch.commands.asked import FAILED
from ctrwatch.commands.configured import Configured, settings as settings_of
from ctrwatch.commands.lines import Rendering
from ctrwatch.commands.reload import Reload, lines_part, policies_part, watch_part
from ctrwatch.config import Settings
from ctrwatch.core.chain import Report
from ctrwatch.core.report import Gap, watch_gap
from ctrwatch.core.story import Tell
from ctrwatch.evidence.discover import GRAPH_ROOTS, Sockets
from ctrwatch.outputs.lines import LineOutput, Resumed
from ctrwatch.outputs.state import State
from ctrwatch.privileges import READING, keep
from ctrwatch.sensor.host import Host, read_host, wall_offset_ns
from ctrwatch.service import Service

if TYPE_CHECKING:
    from ctrwatch.commands.actions import Actions
    from ctrwatch.commands.exposed import Exposed
    from ctrwatch.commands.kept import Kept
    from ctrwatch.commands.verdicts import Verdicts

__all__ = ("Extras", "run")

_SIGN_S: Final = 300.0  # between signs of life: as much too early a gap may begin, when idle
_NICE = -10  # -20 to 19; kernel threads that must not wait have -20


class Extras(NamedTuple):
    """What is asked for besides lines; None: it is not."""

    exposed: Exposed | None
    verdicts: Verdicts | None
    keeps: Callable[[Host], Kept] | None
    actions: Actions


async def run(configured: Configured, extras: Extras) -> int:
    """Watch until a signal; return the exit code."""
    _hurry()
    session = _Session(configured, extras)
    await session.follow()
    return await session.close()


class _Session:
    """
    One run of `ctrwatch events`: a watch, and all that listens to it.

    Made in this order: what needs privileges, their end, and then the first thread.
    """

    def __init__(self, configured: Configured, extras: Extras) -> None:
        settings, lines = settings_of(configured.value), configured.value.output
        path = Path(lines.path) if lines.path is not None else None
        terminal = path is None and sys.stdout.isatty()
        render = Rendering(lines.format, terminal=terminal, wall_offset_ns=wall_offset_ns)
        self._exposed, self._verdicts = extras.exposed, extras.verdicts
        # Somebody's own at a terminal, who asked for nothing that can be reloaded, ends with it.
        asked = path is not None or configured.is_there or extras.verdicts is not None
        reloads = asked or not any(map(os.isatty, (0, 1, 2)))
        self._ended, self._reloading = _signals(render, reloads=reloads)

        self._host = read_host()
        self._sensor = open_sensor(self._host, settings)
        self._state = State(settings.state) if settings.state is not None else None
        self._kept = extras.keeps(self._host) if extras.keeps is not None else None
        self._acting = Acting(extras.actions)
        # Before the output's thread, and any other.
        _shed(READING | self._sensor.capabilities | self._acting.capabilities(self._host))
        shown = self._verdicts.showing(render) if self._verdicts else render
        self._output = self._opened(path, shown)
        self._watch = self._watching(settings, self._listener(shown))
        parts = [lines_part(render, self._output), watch_part(self._watch)]
        if extras.verdicts is not None and extras.verdicts.judge is not None:
            parts.append(policies_part(extras.verdicts, _say))
        self._reload = Reload(configured, parts, self._output.reopen, _say)
        self._service = Service(os.environ)
        _say(f"{_welcome(self._host, self._sensor.name)}")

    def _opened(self, path: Path | None, shown: Callable[[Heard], bytes | None]) -> LineOutput:
        resumed = partial(_missing_line, self._host.name, shown)
        end = partial(asyncio.get_running_loop().call_soon_threadsafe, self._ended.set)
        return _open(path, end, resumed)

    def _listener(self, shown: Callable[[Heard], bytes | None]) -> Callable[[Heard], None]:
        """From the last to hear of an event to the first."""
        listener = _writer(shown, self._output, self._state)
        listener = self._exposed.counting(listener) if self._exposed else listener
        if self._kept is not None:
            sources = self._verdicts.sources if self._verdicts else ()
            listener = self._kept.keeping(listener, self._sensor.name, sources)
        self._tell = listener
        listener = self._acting.listening(listener)
        judging = self._verdicts.judging(listener, self._acting.act) if self._verdicts else None
        self._judging = judging
        return judging or listener

    def _watching(self, settings: Settings, listener: Callable[[Heard], None]) -> Watch:
        past = self._state.past if self._state is not None else None
        # Lines have no readings.
        readings = any((self._judging, self._exposed, self._kept))
        watch = Watch(settings, self._host, self._sensor, listener, past, readings=readings)
        if self._state is not None:
            self._state.past = None  # of each that lived: the watch drops it once it is compared
        self._acting.begin(self._host, watch, self._sensor, self._tell)
        if self._judging is not None:
            self._judging.rouse = watch.rouse
            self._judging.wall_offset_ns = lambda: watch.wall_offset_ns
        return watch

    async def follow(self) -> None:
        """Until a signal, or the output's end."""
        watch, service = self._watch, self._service
        async with asyncio.TaskGroup() as tasks:
            progress = tasks.create_task(_say_when_listening(watch, service), name="progress")
            running = tasks.create_task(watch.run(), name="watch")
            waiting = tasks.create_task(self._ended.wait(), name="signals")
            others = [progress, tasks.create_task(_sign(self._state), name="state")]
            others.append(tasks.create_task(self._reload.serve(self._reloading), name="reload"))
            if self._exposed is not None:
                _say(f"metrics at {self._exposed.where}")
                served = self._exposed.serve(
                    watch, self._output, self._sensor.name, self._acting.acted
                )
                others.append(tasks.create_task(served, name="metrics"))
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
            for task in (running, waiting, *others):
                task.cancel()
            service.stopping()

    async def close(self) -> int:
        """Write what is still to be said; the exit code."""
        if self._judging is not None:
            self._judging.finish()
        await self._acting.close()  # all has been said, and lines can still be written
        self._output.close()
        if self._state is not None:
            self._state.close()
        violations = self._judging.told if self._judging is not None else 0
        code = _farewell(self._watch, self._output, violations)
        if self._kept is not None:
            _say(self._kept.end(self._watch))
            code = code or (1 if self._kept.store.dropped else 0)
        return code or (FAILED if self._verdicts and self._verdicts.failed else 0)


def _signals(render: Rendering, *, reloads: bool) -> tuple[asyncio.Event, asyncio.Event]:
    """Set when it shall end, and when it shall reload."""
    loop = asyncio.get_running_loop()
    ended, reloading = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if reloads:
        loop.add_signal_handler(signal.SIGHUP, _hang_up, render, ended, reloading)
    return ended, reloading


def _hang_up(render: Rendering, ended: asyncio.Event, reloading: asyncio.Event) -> None:
    """SIGHUP means both: the terminal has gone, or somebody asks to reload."""
    gone = render.terminal and not sys.stdout.isatty()
    (ended if gone else reloading).set()


def _shed(but: frozenset[str]) -> None:
    """Give up what reading does not take. A watch with too many privileges is better than none."""
    try:
        keep(but)
    except OSError as error:
        _say(f"privileges that are not needed can't be given up: {error.strerror}")


def _hurry() -> None:
    """
    Be scheduled soon: a birth leaves 20 ms, and on a busy host a turn can take as long.

    ctrwatch runs for some 5 ms a birth, and not at all when nothing happens.
    """
    with contextlib.suppress(OSError):  # CAP_SYS_NICE is not needed, only good
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def _open(path: Path | None, on_failure: Callable[[], object], on_resumed: Resumed) -> LineOutput:
    if path is not None:
        return LineOutput.open_file(path, on_failure, on_resumed)
    return LineOutput(sys.stdout.fileno(), on_failure=on_failure, on_resumed=on_resumed)


def _missing_line(
    host: str, render: Callable[[Heard], bytes | None], number: int, since_ns: int
) -> bytes | None:
    """Says in the stream how many of its lines are missing, and since when (wall clock)."""
    now_ns = time.time_ns()
    gap = Gap(boot_ns=0, reason="output", since_ns=since_ns, until_ns=now_ns, lost=number)
    return render(Report(watch_gap(gap, host, now_ns)))


def _writer(
    render: Callable[[Heard], bytes | None], output: LineOutput, state: State | None
) -> Callable[[Heard], None]:
    """
    What is told is remembered, in the output's thread: a disk may be slow. A birth is before it is
    told, so that it is never told as new again; an end is after, so that it is never left out.
    """

    def write(heard: Heard) -> None:
        line = render(heard)
        if state is not None and isinstance(heard, Tell):
            note = partial(state.note, heard.event)
            if heard.event.event == "container_remove":
                output.write(line or b"", then=note)
            else:
                output.write(line or b"", first=note)
        elif line is not None:
            output.write(line)

    return write


async def _sign(state: State | None) -> None:
    while state is not None:
        await asyncio.sleep(_SIGN_S)
        state.sign()


def _runtimes() -> list[str]:
    """What is there now, for a newcomer to see; nothing depends on it."""
    sockets = Sockets({})
    here = [kind for kind in ("docker", "containerd", "cri") if sockets.present(kind)]
    if any(os.path.isdir(root) for root in GRAPH_ROOTS):
        here.append("podman")
    return here + [program for program in ("runc", "crun") if shutil.which(program)]


def _welcome(host: Host, sensor: str) -> str:
    runtimes = ", ".join(_runtimes()) or "none yet; one that comes later is found by itself"
    return (
        f"watching {host.name} (Linux {host.kernel}, cgroups {host.mode}) by {sensor};"
        f" runtimes: {runtimes}\n"
        "ctrwatch: every container that is born shows up here; Ctrl-C ends"
        " (none at hand? `make demo` in a second terminal)"
    )


async def _say_when_listening(watch: Watch, service: Service) -> None:
    await watch.caught_up.wait()
    # What start-up made stays. Without this a full round of the collector looks through all of
    # it now and then, and takes longer than a birth has time.
    gc.collect()
    gc.freeze()
    status = f"listening; {watch.counts.seen} containers were there"
    _say(status)
    service.ready(status)
    await service.beat()


def _farewell(watch: Watch, output: LineOutput, violations: int) -> int:
    counts = watch.counts
    _say(
        f"{counts.seen} seen, {counts.complete} complete, {counts.partial} partial,"
        f" {counts.unverified} unverified, {counts.lost} lost"
        + (f", {counts.flooded} more in floods" if counts.flooded else "")
        + (f", {violations} violations" if violations else "")
        + (f", {counts.forgotten} cgroups forgotten" if counts.forgotten else "")
        + (f", {output.dropped} lines not written" if output.dropped else "")
    )
    if output.failure is None:
        return 1 if output.dropped else 0
    if output.failure.errno == errno.EPIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush to
        return 0  # the reader has what it wanted: `ctrwatch events | head`
    _say(f"the output can't be written: {output.failure.strerror}")
    return 1


def _say(text: str) -> None:
    click.echo(f"ctrwatch: {text}", err=True)
