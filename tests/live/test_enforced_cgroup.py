"""The cgroup that was judged and no other: real cgroups, real processes, no container."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from ctrwatch.actions.enforce import Enforcer
from ctrwatch.event import Cgroup, ContainerEvent, Enforcement, Violation
from ctrwatch.sensor.host import read_host
from tests.live.waiting import until
from tests.live.watching import unified
from tests.unit.verdicts import EVENT, VIOLATION

AGE_NS = 60_000_000_000


@contextmanager
def cgroup(name: str) -> Iterator[Path]:
    path = unified() / f"ctrwatch-{os.getpid()}-{name}"
    path.mkdir()
    try:
        yield path
    finally:
        (path / "cgroup.kill").write_text("1")
        for each in (path / "below", path):
            if each.is_dir():
                until("it is empty", lambda: _is("populated 0", path))
                each.rmdir()


def _is(what: str, path: Path) -> bool:
    return what in (path / "cgroup.events").read_text().splitlines()


@contextmanager
def ourselves(directory: Path) -> Iterator[None]:
    """This process is in it."""
    mine = Path("/proc/self/cgroup").read_text().splitlines()
    where = next(line[3:] for line in mine if line.startswith("0::"))
    (directory / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        Path(f"{unified()}{where}/cgroup.procs").write_text(str(os.getpid()))


@contextmanager
def process(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(("sleep", "600")) as running:
        (directory / "cgroup.procs").write_text(str(running.pid))
        try:
            yield running
        finally:
            running.kill()


def birth(directory: Path, *, later_ns: int = 0) -> ContainerEvent:
    """Of a container whose cgroup it is; *later_ns*: after now."""
    path = f"/{directory.relative_to(unified())}"
    own = Cgroup(id=directory.stat().st_ino, path=path, hierarchy_id=0, version=2)
    return msgspec.structs.replace(EVENT, cgroup=own, ctime=time.time_ns() + later_ns)


async def enforced(
    event: ContainerEvent, *violations: Violation, dry_run: bool = False
) -> list[Enforcement]:
    told: list[Enforcement] = []
    said = asyncio.Event()

    def tell(event: Enforcement) -> None:
        told.append(event)
        if len(told) >= len(violations):
            said.set()

    enforcer = Enforcer(read_host(), lambda key: (key,), tell, dry_run=dry_run)
    enforcer.heard(event)
    for violation in violations or (VIOLATION,):
        enforcer.judged(violation, event)
    async with asyncio.timeout(15):
        await said.wait()
    await enforcer.close()
    return told


async def test_all_of_it_and_nothing_else_is_killed() -> None:
    with cgroup("a") as own, cgroup("ab") as neighbour, process(neighbour) as other:
        (own / "below").mkdir()
        with process(own) as first, process(own / "below") as second:
            (told,) = await enforced(birth(own, later_ns=-AGE_NS))
            assert (first.wait(5), second.wait(5)) == (-9, -9)

        assert (told.result, told.before_start) == ("done", True)
        assert other.poll() is None


async def test_a_dry_run_kills_nobody() -> None:
    with cgroup("a") as own, process(own) as running:
        (told,) = await enforced(birth(own), dry_run=True)

        assert told.result == "dry_run"
        assert running.poll() is None
        assert _is("frozen 0", own)


async def test_who_is_in_it_since_before_the_birth_protects_it() -> None:
    with cgroup("a") as own, process(own) as running:
        (told,) = await enforced(birth(own, later_ns=AGE_NS))

        assert told.result == "refused"
        assert f"process {running.pid} (sleep)" in told.reason
        assert running.poll() is None
        assert _is("frozen 0", own)


async def test_one_in_which_ctrwatch_is_is_refused() -> None:
    with cgroup("a") as own, ourselves(own):
        (told,) = await enforced(birth(own, later_ns=-AGE_NS))

    assert (told.result, told.reason) == ("refused", "ctrwatch itself is in it")


async def test_the_root_is_refused_by_its_id() -> None:
    event = birth(unified())
    lies = msgspec.structs.replace(event.cgroup, path="/docker/c1")
    (told,) = await enforced(msgspec.structs.replace(event, cgroup=lies))

    assert told.result == "refused"
    assert "root" in told.reason or "ctrwatch" in told.reason


async def test_another_of_the_same_path_is_not_touched() -> None:
    with cgroup("a") as own:
        event = birth(own)
        own.rmdir()
        own.mkdir()
        assert own.stat().st_ino != event.cgroup.id
        with process(own) as running:
            (told,) = await enforced(event)

            assert (told.result, told.reason) == ("failed", "its cgroup has gone")
            assert running.poll() is None


async def test_who_comes_later_is_killed_too() -> None:
    """The first task was on its way when the kill came."""
    with cgroup("a") as own:
        task = asyncio.create_task(enforced(birth(own)))
        await asyncio.to_thread(until, "it is frozen", lambda: _is("frozen 1", own))
        with process(own) as running:
            (told,) = await task
            assert running.wait(5) == -9

    assert told.result == "done"


async def test_two_rules_stop_it_once_and_each_is_told() -> None:
    second = msgspec.structs.replace(VIOLATION, id="v2", action="freeze")
    with cgroup("a") as own, process(own) as running:
        told = await enforced(birth(own), VIOLATION, second)
        assert running.wait(5) == -9

    assert [(each.violation_id, each.action, each.result) for each in told] == [
        ("v1", "kill", "done"), ("v2", "kill", "done")
    ]  # fmt: skip


async def test_what_was_killed_leaves_no_frozen_cgroup() -> None:
    with cgroup("a") as own, process(own) as running:
        await enforced(birth(own))
        running.wait(5)

        assert _is("frozen 0", own)


@pytest.mark.parametrize("action", ["log"])
async def test_a_rule_that_asks_for_nothing_gets_nothing(action: str) -> None:
    told: list[Enforcement] = []
    enforcer = Enforcer(read_host(), lambda key: (key,), told.append)
    with cgroup("a") as own, process(own) as running:
        enforcer.judged(msgspec.structs.replace(VIOLATION, action=action), birth(own))
        await enforcer.close()

        assert told == []
        assert running.poll() is None
