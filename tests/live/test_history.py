"""Real containers end in the history, whatever happens to the watch or the disk."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.runtimes import Docker
from tests.live.test_outputs import bear, enlarge, home
from tests.live.waiting import until
from tests.live.watching import Event, Watching, ctrwatch

__all__ = ("home",)

BIRTHS = 101


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """512 KB, until `enlarge`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=512k", "none", disk), check=True)
    yield disk
    subprocess.run(("umount", disk), check=True)


def kept(path: Path, *options: str) -> list[Event]:
    lines = ctrwatch("history", "--store", str(path), "--json", *options).splitlines()
    return [json.loads(line) for line in lines]


def told(events: list[Event], name: str) -> list[str]:
    """Of those that `bear` made, whatever else is born on this host."""
    named = (event["container_id"] for event in events if event["event"] == name)
    return [container for container in named if container.startswith("0" * 60)]


def test_what_left_is_kept_as_it_was(docker: Docker, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with Watching("--store", str(path)) as watching:
        container = docker.run("true", options=("--name", "kept"))
        watching.event("container_remove", container)
        image = watching.event("container_create", container)["container_image"]
        assert watching.stop() == 0

    lines = [line.event for line in watching.lines if line.event.get("container_id") == container]
    assert kept(path, "--id", container) == lines
    assert kept(path, "--image", image, "--name", "kept", "--runtime", "docker") == lines
    ends = [event["event"] for event in kept(path) if event["event"].startswith("watch_")]
    assert ends == ["watch_start", "watch_stop"]
    assert "chain is whole" in ctrwatch("history", "--store", str(path), "--verify")
    [head] = [line for line in watching.errors if "history: head" in line]
    ctrwatch("history", "--store", str(path), "--verify", "--head", head.split()[-1])


def test_a_watch_is_killed_in_the_middle(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    options = ("--no-existing", "--wait", "0", "--store", str(path))
    with Watching(*options) as watching:
        before = [bear(home, number) for number in range(BIRTHS)]
        watching.event("container_remove", before[50])
        assert watching.stop(signal.SIGKILL) == -signal.SIGKILL
    with Watching(*options) as watching:
        after = bear(home, BIRTHS)
        watching.event("container_remove", after)
        assert watching.stop() == 0

    created = told(kept(path), "container_create")
    assert created[:-1] == before[: len(created) - 1]
    assert created[-1] == after
    assert "chain is whole" in ctrwatch("history", "--store", str(path), "--verify")


def test_the_disk_of_the_history_is_full_for_a_while(home: Path, disk: Path) -> None:
    path = disk / "history.db"
    options = ("--no-existing", "--wait", "0", "--store", str(path))
    with Watching(*options) as watching:
        born = [bear(home, number) for number in range(5 * BIRTHS)]
        watching.until(lambda: any("no room left" in line for line in watching.errors), "full")
        watching.event("container_remove", born[-1])  # the events go on
        enlarge(disk)
        watching.until(lambda: any("written again" in line for line in watching.errors), "again")
        born.append(bear(home, 5 * BIRTHS))
        watching.event("container_remove", born[-1])
        last = ("--id", born[-1])
        until("the last one", lambda: bool(told(kept(path, *last), "container_remove")))
        assert watching.stop() == 0

    assert told(kept(path), "container_create") == born
    assert told(kept(path), "container_remove") == born
    assert "chain is whole" in ctrwatch("history", "--store", str(path), "--verify")
