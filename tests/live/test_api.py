"""The Python API on this host: the same events, typed; and the README's example as it stands."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ctrwatch
from ctrwatch.event import HostEvent
from tests.live.flood import NOBODY, Flood
from tests.live.runtimes import Ctr
from tests.live.watching import DEADLINE_S, environment

README = Path(__file__).parents[2] / "README.md"


async def until(
    events: AsyncIterator[ctrwatch.ContainerEvent], name: str, container: str
) -> ctrwatch.ContainerEvent:
    async with asyncio.timeout(DEADLINE_S):
        async for event in events:
            if (event.event, event.container_id) == (name, container):
                return event
    raise AssertionError("a watch has no end")


async def test_events_are_typed_and_in_order(ctr: Ctr) -> None:
    async with ctrwatch.watch() as events:
        await asyncio.to_thread(ctr.run, "api", "sleep", "600")
        create = await until(events, "container_create", "api")
        start = await until(events, "container_start", "api")
        await asyncio.to_thread(ctr.remove, "api")
        remove = await until(events, "container_remove", "api")

    assert isinstance(create, ctrwatch.ContainerEvent)
    assert create.evidence.status == "complete"
    assert create.process is not None
    assert create.process.args == ("sleep", "600")
    assert create.time < start.time < remove.time


async def test_a_container_that_was_there_comes_first(ctr: Ctr) -> None:
    ctr.run("api-existing", "sleep", "600")
    try:
        async with ctrwatch.watch() as events:
            event = await until(events, "existing_container", "api-existing")
    finally:
        ctr.remove("api-existing")

    assert event.runtime == "containerd"


async def test_events_of_the_watch_itself_come_to_who_asks_for_them() -> None:
    """By a flood: it is told ten seconds after its first cgroup."""
    async with ctrwatch.watch() as simple, ctrwatch.watch(host_events=True) as whole:
        flooded = asyncio.create_task(first_flood(whole))
        with Flood() as flood:
            flood.begin(307)
            await asyncio.to_thread(flood.end)
            async with asyncio.timeout(DEADLINE_S):
                told = await flooded
        names = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):  # all that is there
                async for event in simple:
                    names.add(event.event)

    assert told.uid == NOBODY
    assert "container_create" in names
    assert "flood" not in names


async def first_flood(
    events: AsyncIterator[ctrwatch.ContainerEvent | HostEvent],
) -> ctrwatch.Flood:
    async for event in events:
        if isinstance(event, ctrwatch.Flood):
            return event
    raise AssertionError("a watch has no end")


async def test_the_readers_own_error_is_not_hidden_in_another() -> None:
    with pytest.raises(ZeroDivisionError):
        async with ctrwatch.watch():
            1 / 0  # noqa: B018


async def test_a_watch_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()

    async with ctrwatch.watch():
        pass

    assert asyncio.all_tasks() == before


def test_the_readmes_example_prints_a_birth(ctr: Ctr, tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    example = tmp_path / "example.py"
    example.write_text(str(block))
    with subprocess.Popen(
        (sys.executable, "-u", str(example)), stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        try:
            # It says nothing when it begins to hear; so it is given births until it must.
            for number in range(23):
                ctr.run(f"readme-{number}", "true")
                ctr.remove(f"readme-{number}")
            line = process.stdout.readline()
        finally:
            process.kill()

    assert re.fullmatch(r"containerd readme-\d+ docker\.io/library/busybox:test\n", line)


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="needs setpriv (util-linux)")
def test_without_privilege_it_says_what_to_do() -> None:
    script = (
        "import asyncio, ctrwatch\n"
        "async def main():\n"
        "    async with ctrwatch.watch(): pass\n"
        "try: asyncio.run(main())\n"
        "except ctrwatch.HostError as error: print(error)\n"
    )
    done = subprocess.run(
        ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable, "-c", script),
        capture_output=True, text=True, check=False, env=environment(), timeout=DEADLINE_S,
    )  # fmt: skip

    assert "run as root" in done.stdout, done.stderr
