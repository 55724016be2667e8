"""
What programs call: `watch()`, which ctrwatch/__init__.py gives away, and what is there now.

Both are a `Watch` (app.py) with a listener that collects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, NamedTuple, TypeVar, overload

from ctrwatch.app import Heard, Watch, open_sensor
from ctrwatch.config import Settings
from ctrwatch.core.chain import Report
from ctrwatch.core.story import Tell
from ctrwatch.event import Audit, ContainerEvent, ContainerUsage, HostEvent, Verdict
from ctrwatch.sensor.host import read_host

__all__ = ("Snapshot", "snapshot", "watch")

log = logging.getLogger(__name__)

T = TypeVar("T")

# Events a slow reader of `watch()` may lag behind: 100 births a second for 100 seconds.
_LAG: Final = 10_000


class Snapshot(NamedTuple):
    """*containers*, as `existing_container` events, outer ones first; with an audit its findings."""

    containers: list[ContainerEvent]
    findings: list[Audit]
    unavailable: tuple[str, ...]  # a sentence for each runtime that could not be asked


async def snapshot(settings: Settings, *, verify: bool = False) -> Snapshot:
    """The containers that are there now; *verify*: compared with what the runtimes list."""
    containers: list[ContainerEvent] = []
    findings: list[Audit] = []

    def listen(heard: Heard) -> None:
        if isinstance(heard, Tell) and heard.event.event == "existing_container":
            containers.append(heard.event)
        elif isinstance(heard, Report) and isinstance(heard.event, Audit):
            findings.append(heard.event)

    watching = Watch(settings, read_host(), None, listen)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(watching.run(), name="watch")
        await watching.caught_up.wait()
        unavailable = await watching.audit() if verify else ()
        run.cancel()
    return Snapshot(containers, findings, unavailable)


@overload
def watch(
    settings: Settings | None = None, *, host_events: Literal[False] = False
) -> AbstractAsyncContextManager[AsyncIterator[ContainerEvent]]: ...


@overload
def watch(
    settings: Settings | None = None, *, host_events: Literal[True]
) -> AbstractAsyncContextManager[AsyncIterator[ContainerEvent | HostEvent]]: ...


@contextlib.asynccontextmanager
async def watch(
    settings: Settings | None = None, *, host_events: bool = False
) -> AsyncIterator[AsyncIterator[Any]]:
    """
    Follow this host's containers.

    Yields an async iterator of `ContainerEvent`, in order: first the containers that are
    there, then what happens. With *host_events* there are also events of no one container
    among them: `WatchGap`, `Audit`, `Flood`, `HostUsage`. Without, what they say of losses is in the log.

    A reader that lags 10,000 events behind misses the ones that come then; the number is
    logged. Raises HostError where the host can't be watched (no privilege, no BTF, no
    libbpf), with a sentence that says what to do.

        async with ctrwatch.watch() as events:
            async for event in events:
                print(event.runtime, event.container_image)
    """
    queue: asyncio.Queue[ContainerEvent | HostEvent | Verdict | ContainerUsage] = asyncio.Queue(
        _LAG
    )
    dropped = 0

    def listen(heard: Heard) -> None:
        nonlocal dropped
        if isinstance(heard, Tell) or (host_events and isinstance(heard, Report)):
            try:
                queue.put_nowait(heard.event)
            except asyncio.QueueFull:
                dropped += 1
                log.warning("the reader is too slow: %d events dropped so far", dropped)

    settings, host = settings or Settings(), read_host()
    watching = Watch(settings, host, open_sensor(host, settings), listen, readings=False)
    theirs: Exception | None = None  # a task group would wrap it
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(watching.run(), name="watch")
        try:
            yield _drain(queue)
        except Exception as error:  # noqa: BLE001 - raised again below
            theirs = error
        finally:
            run.cancel()
    if theirs is not None:
        raise theirs


async def _drain(queue: asyncio.Queue[T]) -> AsyncIterator[T]:
    while True:
        yield await queue.get()
