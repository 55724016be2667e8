"""What a service manager hears: sd_notify(3)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrwatch.service import Service


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = "@" + address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        receiver.bind(address.replace("@", "\0", 1))
        yield receiver, address


def test_it_says_when_it_listens_and_when_it_ends(manager: tuple[socket.socket, str]) -> None:
    receiver, address = manager
    service = Service({"NOTIFY_SOCKET": address})

    service.ready("listening; 3 containers were there")
    service.stopping()

    assert receiver.recv(4096) == b"READY=1\nSTATUS=listening; 3 containers were there"
    assert receiver.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("pid", ["", str(os.getpid())], ids=["", "ours"])
async def test_it_beats_at_half_the_interval(manager: tuple[socket.socket, str], pid: str) -> None:
    receiver, address = manager
    given = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": pid}
    loop = asyncio.get_running_loop()

    async with asyncio.timeout(10):
        beating = asyncio.create_task(Service(given).beat())
        begun_s = loop.time()
        for _ in range(4):
            assert await loop.sock_recv(receiver, 4096) == b"WATCHDOG=1"
        took_s = loop.time() - begun_s
    beating.cancel()

    assert took_s >= 3 * 0.01 - 0.002  # the clock of the loop has its own grain


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nobody-asks"),
        pytest.param(
            {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, id="another-process-is-asked"
        ),
        pytest.param({"WATCHDOG_USEC": "soon"}, id="no-number"),
    ],
)
async def test_it_does_not_beat_unasked(
    manager: tuple[socket.socket, str], given: dict[str, str]
) -> None:
    receiver, address = manager

    await Service({"NOTIFY_SOCKET": address, **given}).beat()

    with pytest.raises(BlockingIOError):
        receiver.recv(4096)


def test_nobody_is_told_where_there_is_no_manager(caplog: pytest.LogCaptureFixture) -> None:
    Service({}).ready("listening")
    assert caplog.messages == []


def test_a_manager_that_has_gone_is_a_word_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Service({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("listening")
    [message] = caplog.messages
    assert "can't be told READY=1" in message
