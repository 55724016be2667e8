"""What a container uses, read from the kernel's own cgroups as they go, are reset, or have no controllers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ctrwatch.core.changes import Living
from ctrwatch.core.usage import later
from ctrwatch.event import Unread, Usage
from ctrwatch.model import CgroupKey, ContainerId
from ctrwatch.sensor.host import read_host
from ctrwatch.sensor.usage import UsageReader
from tests.live.waiting import until

NAME = "ctrwatch-test-usage"
HOST = read_host()
COUNTS_V1 = any(
    number and "memory" in each.controllers.split(",") for number, each in HOST.hierarchies.items()
)


class Cgroups:
    """A directory in each hierarchy, or in those that are *chosen*, as a container has them."""

    def __init__(self, chosen: Callable[[int], bool] = bool) -> None:
        self.directories = {
            number: Path(each.mount, NAME)
            for number, each in HOST.hierarchies.items()
            if chosen(number)
        }
        for directory in self.directories.values():
            directory.mkdir()
        keys = [CgroupKey(n, each.stat().st_ino) for n, each in self.directories.items()]
        self.living = Living(1, ContainerId("c"), f"/{NAME}", tuple(keys))

    def remove(self) -> None:
        for directory in self.directories.values():
            with suppress(FileNotFoundError):
                directory.rmdir()

    def of(self, file: str) -> Path | None:
        """That file, where a hierarchy has it."""
        found = (each / file for each in self.directories.values())
        return next((path for path in found if path.exists()), None)


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    made = Cgroups(lambda _: True)
    yield made
    made.remove()


@pytest.fixture
def reader() -> UsageReader:
    return UsageReader(HOST)


def figures(used: Usage) -> set[str]:
    """Those that are known."""
    names = (name for name in Usage.__struct_fields__ if name != "missing")
    return {name for name in names if getattr(used, name) is not None}


def test_a_cgroup_without_limits_and_tasks(cgroups: Cgroups, reader: UsageReader) -> None:
    used = reader.read(cgroups.living)

    assert Unread.GONE not in used.missing.values()
    assert Unread.UNREADABLE not in used.missing.values()
    assert (used.memory_limit_bytes, used.pids_limit) == (None, None)  # the files say `max`
    if cgroups.of("pids.max") is not None:
        assert used.pids == 0
        assert not {"memory_limit_bytes", "pids_limit"} & used.missing.keys()


@pytest.mark.parametrize("file", ["cpu.stat", "memory.oom_control", "memory.events", "pids.max"])
@pytest.mark.parametrize("when", ["before it is opened", "between open and read"])
def test_a_cgroup_that_vanishes_while_it_is_read(
    cgroups: Cgroups, reader: UsageReader, monkeypatch: pytest.MonkeyPatch, file: str, when: str
) -> None:
    """The kernel's own answers: ENOENT for a file of a directory that was open, ENODEV for an open file."""
    if cgroups.of(file) is None:
        pytest.skip(f"this host has no {file}")
    true_open, true_read = os.open, os.read
    removed: list[str] = []
    watched: set[int] = set()

    def vanishing_open(path: Any, *args: Any, **more: Any) -> int:
        if path == file and more.get("dir_fd") is not None and when == "before it is opened":
            cgroups.remove()
            removed.append(file)
        fd = true_open(path, *args, **more)
        if path == file and when != "before it is opened":
            watched.add(fd)
        return fd

    def vanishing_read(fd: int, size: int) -> bytes:
        if fd in watched and not removed:
            cgroups.remove()
            removed.append(file)
        return true_read(fd, size)

    whole = reader.read(cgroups.living)
    monkeypatch.setattr(os, "open", vanishing_open)
    monkeypatch.setattr(os, "read", vanishing_read)
    used = reader.read(cgroups.living)
    monkeypatch.undo()

    assert removed
    assert Unread.GONE in used.missing.values()
    assert Unread.UNREADABLE not in used.missing.values()
    offered = {name for name, why in used.missing.items() if why is Unread.NOT_OFFERED}
    assert offered <= {name for name, why in whole.missing.items() if why is Unread.NOT_OFFERED}
    assert figures(used) < figures(whole)
    assert figures(later(whole, used)) == figures(whole)  # what was known stays known


def test_a_cgroup_that_has_gone_before(cgroups: Cgroups, reader: UsageReader) -> None:
    cgroups.remove()

    used = reader.read(cgroups.living)

    assert set(used.missing.values()) <= {Unread.GONE, Unread.NO_CONTROLLER}
    assert Unread.GONE in used.missing.values()
    assert figures(used) == set()


@pytest.mark.skipif(not COUNTS_V1, reason="the unified hierarchy has the controllers here")
def test_controllers_that_the_unified_hierarchy_does_not_have(reader: UsageReader) -> None:
    made = Cgroups(lambda number: number == 0)
    try:
        used = reader.read(made.living)
    finally:
        made.remove()

    assert used.missing["memory_bytes"] is used.missing["pids"] is Unread.NO_CONTROLLER
    assert used.cpu_seconds == 0


@pytest.mark.skipif(COUNTS_V1, reason="controllers can't be taken from v1's cgroups")
def test_controllers_that_a_parent_does_not_delegate(reader: UsageReader) -> None:
    """On cgroup v2: a child of a cgroup whose cgroup.subtree_control is empty."""
    made = Cgroups(lambda number: number == 0)
    child = made.directories[0] / "inner"
    child.mkdir()
    try:
        key = CgroupKey(0, child.stat().st_ino)
        used = reader.read(Living(1, ContainerId("c"), f"/{NAME}/inner", (key,)))
    finally:
        child.rmdir()
        made.remove()

    assert used.missing["memory_bytes"] is used.missing["pids"] is Unread.NO_CONTROLLER
    assert used.missing["io_read_bytes"] is used.missing["throttled_periods"] is Unread.NO_CONTROLLER  # fmt: skip
    assert used.cpu_seconds == 0


@pytest.mark.skipif(not COUNTS_V1, reason="only v1's counter can be set back")
def test_a_counter_that_somebody_sets_back(cgroups: Cgroups, reader: UsageReader) -> None:
    usage = cgroups.of("cpuacct.usage")
    assert usage is not None
    with subprocess.Popen(
        ("sh", "-c", "read x; while :; do :; done"), stdin=subprocess.PIPE
    ) as busy:
        assert busy.stdin is not None
        try:
            (usage.parent / "cgroup.procs").write_text(str(busy.pid))
            busy.stdin.write(b"go\n")
            busy.stdin.close()
            until("it has used a tick", lambda: int(usage.read_text()) > 50_000_000)
            before = reader.read(cgroups.living)
        finally:
            busy.kill()
            busy.wait()
    until("its last tick is counted", lambda: _set_back(usage))
    now = reader.read(cgroups.living)

    assert now.cpu_seconds is not None
    assert before.cpu_seconds is not None
    assert now.cpu_seconds < before.cpu_seconds
    assert later(before, now).cpu_seconds == before.cpu_seconds


def _set_back(usage: Path) -> bool:
    usage.write_text("0")
    return usage.read_text().strip() == "0"


def test_a_limit_of_zero(cgroups: Cgroups, reader: UsageReader) -> None:
    limit = cgroups.of("pids.max")
    if limit is None:
        pytest.skip("this host has no pids controller for it")
    limit.write_text("0")

    used = reader.read(cgroups.living)

    assert used.pids_limit == 0
    assert "pids_limit" not in used.missing
