"""What happens to an output happens to nothing else: rotated files, full disks, readers that stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.waiting import until
from tests.live.watching import DEADLINE_S, Event, Watching, unified

BIRTHS = 101


@pytest.fixture
def home() -> Iterator[Path]:
    home = unified() / "ctrwatch-outputs"
    home.mkdir()
    yield home
    home.rmdir()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """64 KB, until `enlarge`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=64k", "none", disk), check=True)
    yield disk
    subprocess.run(("umount", disk), check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(("mount", "-o", "remount,size=16m", disk), check=True)


def bear(home: Path, number: int) -> str:
    """A container by name only, that ends at once."""
    container = f"{number:064x}"
    place = home / f"docker-{container}.scope"
    place.mkdir()
    place.rmdir()
    return container


def events(*paths: Path) -> list[Event]:
    """All whole lines; a torn one fails."""
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def told(events: list[Event], name: str) -> list[str]:
    return [event["container_id"] for event in events if event["event"] == name]


def test_a_file_is_rotated_in_the_middle_of_births(home: Path, tmp_path: Path) -> None:
    path, before = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
    with Watching("--no-existing", "--wait", "0", "--output", str(path)) as watching:
        born = [bear(home, number) for number in range(BIRTHS // 2)]
        until("a line", lambda: path.stat().st_size > 0)
        path.rename(before)
        watching.process.send_signal(signal.SIGHUP)
        while not path.exists():  # births go on while it is opened
            born.append(bear(home, len(born)))
        born += [bear(home, len(born) + number) for number in range(BIRTHS // 2)]
        until("the last removal", lambda: told(events(path), "container_remove")[-1:] == born[-1:])
        assert watching.stop() == 0

    assert events(before)
    both = events(before, path)
    assert told(both, "container_create") == born
    assert told(both, "container_remove") == born


def test_a_disk_is_full_for_a_while(home: Path, disk: Path) -> None:
    path = disk / "events.jsonl"
    born: list[str] = []
    with Watching("--no-existing", "--wait", "0", "--output", str(path)) as watching:
        born.extend(bear(home, number) for number in range(BIRTHS))
        watching.until(lambda: any("No space left" in line for line in watching.errors), "full")
        full = path.stat().st_size
        assert path.read_bytes().endswith(b"}\n")
        enlarge(disk)
        until("a word in the stream", lambda: path.stat().st_size > full)
        born.append(bear(home, BIRTHS))
        until("the last removal", lambda: told(events(path), "container_remove")[-1:] == born[-1:])
        code = watching.stop()

    lines = events(path)
    gaps = [event for event in lines if event["event"] == "watch_gap"]
    missing = 2 * len(born) - (len(lines) - len(gaps))
    assert {gap["reason"] for gap in gaps} == {"output"}
    assert sum(gap["lost"] for gap in gaps) == missing > 0
    assert all(gap["since"] < gap["until"] for gap in gaps)
    assert told(lines, "container_create")[-1] == born[-1]
    assert code == 1
    assert re.search(rf"102 seen.* {missing} lines not written", watching.errors[-1])


def test_a_reader_stops_for_a_while(home: Path, tmp_path: Path) -> None:
    """A pipe holds 64 KB, the births make 200."""
    fifo, path = tmp_path / "fifo", tmp_path / "read.jsonl"
    os.mkfifo(fifo)
    with path.open("wb") as file, subprocess.Popen(("cat", fifo), stdout=file) as reader:
        with Watching("--no-existing", "--wait", "0", "--output", str(fifo)) as watching:
            reader.send_signal(signal.SIGSTOP)
            born = [bear(home, number) for number in range(BIRTHS)]
            watching.process.send_signal(signal.SIGHUP)  # means nothing to a pipe
            reader.send_signal(signal.SIGCONT)
            until("the last removal", lambda: path.read_bytes().count(b"\n") == 2 * BIRTHS)
            assert watching.stop() == 0
        reader.wait(DEADLINE_S)

    assert told(events(path), "container_create") == born
    assert told(events(path), "container_remove") == born
