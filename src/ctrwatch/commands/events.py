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
from typing import TYPE_CHECKING, Final

import click

from ctrwatch.app import Heard, Watch, open_sensor
from ctrwatch.commands.acting import Acting
from ctrwatch.commands.asked import FAILED
from ctrwatch.commands.lines import chosen
from ctrwatch.config import Settings
from ctrwatch.core.chain import Report
from ctrwatch.core.report import Gap, watch_gap
from ctrwatch.core.story import Tell
from ctrwatch.evidence.discover import GRAPH_ROOTS, Sockets
from ctrwatch.outputs.lines import LineOutput
from ctrwatch.outputs.state import State
from ctrwatch.privileges import READING, keep
from ctrwatch.sensor.host import Host, read_host, wall_offset_ns
from ctrwatch.service import Service

if TYPE_CHECKING:
    from ctrwatch.commands.actions import Actions
    from ctrwatch.commands.exposed import Exposed
    from ctrwatch.commands.verdicts import Verdicts

__all__ = ("run",)

_SIGN_S: Final = 300.0  # between signs of life: as much too early a gap may begin, when idle
_NICE = -10  # -20 to 19; kernel threads that must not wait have -20


async def run(
    settings: Settings,
    format_: str | None,
    path: Path | None,
    exposed: Exposed | None,
    *,
    verdicts: Verdicts | None,
    actions: Actions,
) -> int:
    """Watch until a signal; return the exit code."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)

    _hurry()
    host = read_host()
    terminal = path is None and sys.stdout.isatty()
    render = chosen(format_, terminal=terminal, wall_offset_ns=wall_offset_ns)
    render = verdicts.showing(render) if verdicts else render
    sensor = open_sensor(host, settings)
    state = State(settings.state) if settings.state is not None else None
    acting = Acting(actions)
    # Before the output's thread, and any other.
    _shed(READING | sensor.capabilities | acting.capabilities(host))
    gaps = _Gaps(host.name, render)
    output = _open(path, lambda: loop.call_soon_threadsafe(ended.set), gaps.line)
    gaps.output = output
    if path is not None:  # else it is the terminal that has gone, and ends us
        loop.add_signal_handler(signal.SIGHUP, output.reopen)
    listener = _writer(render, output, state)
    listener = exposed.counting(listener) if exposed else listener
    tell, listener = listener, acting.listening(listener)
    judging = verdicts.judging(listener, acting.act) if verdicts else None
    watch = Watch(
        settings, host, sensor, judging or listener, state.past if state is not None else None
    )
    if state is not None:
        state.past = None  # an event of each that lived: the watch drops it once it is compared
    acting.begin(host, watch, sensor, tell)
    service = Service(os.environ)
    _say(f"{_welcome(host, sensor.name)}")

    async with asyncio.TaskGroup() as tasks:
        progress = tasks.create_task(_say_when_listening(watch, service), name="progress")
        running = tasks.create_task(watch.run(), name="watch")
        waiting = tasks.create_task(ended.wait(), name="signals")
        others = [progress, tasks.create_task(_sign(state), name="state")]
        if exposed is not None:
            _say(f"metrics at {exposed.where}")
            shown = exposed.serve(watch, output, sensor.name, acting.acted)
            others.append(tasks.create_task(shown, name="metrics"))
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        for task in (running, waiting, *others):
            task.cancel()
        service.stopping()
    if judging is not None:
        judging.finish()
    await acting.close()  # all has been said, and lines can still be written
    output.close()
    if state is not None:
        state.close()
    code = _farewell(watch, output, judging.told if judging is not None else 0)
    return code or (FAILED if verdicts and verdicts.failed else 0)


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


def _open(
    path: Path | None, on_failure: Callable[[], object], on_resumed: Callable[[int], bytes | None]
) -> LineOutput:
    if path is not None:
        return LineOutput.open_file(path, on_failure, on_resumed)
    return LineOutput(sys.stdout.fileno(), on_failure=on_failure, on_resumed=on_resumed)


class _Gaps:
    """Says in the stream how many of its lines are missing, and since when."""

    output: LineOutput

    def __init__(self, host: str, render: Callable[[Heard], bytes | None]) -> None:
        self._host, self._render = host, render

    def line(self, dropped: int) -> bytes | None:
        """Called in the output's thread."""
        now_ns = time.time_ns()
        since_ns = self.output.missing_since_ns
        gap = Gap(boot_ns=0, reason="output", since_ns=since_ns, until_ns=now_ns, lost=dropped)
        return self._render(Report(watch_gap(gap, self._host, now_ns)))


def _writer(
    render: Callable[[Heard], bytes | None], output: LineOutput, state: State | None
) -> Callable[[Heard], None]:
    """What is told is remembered first, in the output's thread: a disk may be slow."""

    def write(heard: Heard) -> None:
        line = render(heard)
        if state is not None and isinstance(heard, Tell):
            output.write(line or b"", first=partial(state.note, heard.event))
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
