"""Lines to a descriptor: whole, in order, and nobody waits for a reader that does not read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrwatch.errors import InputError
from ctrwatch.outputs import lines
from ctrwatch.outputs.lines import LineOutput

F_SETPIPE_SZ = 1031
PATIENCE_S = 10  # for a thing that comes at once where all is well


class Pipe:
    """A pipe of one page, so that it is full soon."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.size = fcntl.fcntl(self.writer, F_SETPIPE_SZ, 4096)

    def until_full(self) -> None:
        """Wait until the writer has filled it: then its thread stands in write(2)."""
        poller = select.poll()
        while True:
            poller.register(self.writer, select.POLLOUT)
            if not poller.poll(0):
                return
            os.sched_yield()

    def read_all(self) -> bytes:
        with os.fdopen(self.reader, "rb", closefd=False) as file:
            return file.read()

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            with contextlib.suppress(OSError):  # the test closed it
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_lines_come_whole_and_in_order(pipe: Pipe) -> None:
    sent = [b"%d %s\n" % (number, b"x" * number) for number in range(0, 9000, 101)]
    output = LineOutput(pipe.writer)
    received: list[bytes] = []
    reading = threading.Thread(target=lambda: received.append(pipe.read_all()))
    reading.start()

    for line in sent:
        output.write(line)
    output.close()
    os.close(pipe.writer)
    reading.join(PATIENCE_S)

    assert received == [b"".join(sent)]
    assert output.dropped == 0
    assert output.failure is None


def test_a_reader_that_does_not_read_holds_nobody_up(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_BYTES", 10_000)
    monkeypatch.setattr(lines, "_GRACE_S", 0.0)
    ended = threading.Event()
    output = LineOutput(pipe.writer, on_failure=ended.set)
    output.write(b"x" * (pipe.size + 1))  # more than fits: the thread waits in the middle of it
    pipe.until_full()

    for _ in range(23):
        output.write(b"y" * 1000)
    output.close()

    assert output.dropped == 23  # 13 did not fit, 10 were never taken
    assert output.failure is None
    os.close(pipe.reader)
    assert ended.wait(PATIENCE_S)  # before the next test has a descriptor of that number


def test_what_did_not_fit_is_counted_and_what_fits_later_comes(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_BYTES", 5)
    output = LineOutput(pipe.writer)
    output.write(b"12345")
    assert os.read(pipe.reader, 100) == b"12345"

    output.write(b"larger")
    output.write(b"small")

    assert os.read(pipe.reader, 100) == b"small"
    assert output.dropped == 1
    output.close()


def test_what_waits_is_told_and_whether_there_was_room(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_BYTES", 1000)
    output = LineOutput(pipe.writer)
    assert (output.waiting, output.full) == ((0, 0), False)
    output.write(b"x" * pipe.size)
    assert output.full  # larger than all the room
    monkeypatch.setattr(lines, "_BYTES", 1 << 20)
    output.write(b"x" * (pipe.size + 1))  # its last byte waits in write(2)
    pipe.until_full()
    monkeypatch.setattr(lines, "_BYTES", 1000)

    output.write(b"y" * 600)
    assert (output.waiting, output.full) == ((1, 600), False)
    output.write(b"y" * 600)
    assert (output.waiting, output.full) == ((1, 600), True)

    assert os.read(pipe.reader, 2 * pipe.size)
    output.close()
    assert output.waiting == (0, 0)


def test_a_closed_pipe_is_told_once_and_the_rest_is_counted(pipe: Pipe) -> None:
    failed = threading.Event()
    failures: list[None] = []

    def fail() -> None:
        failures.append(None)
        failed.set()

    output = LineOutput(pipe.writer, on_failure=fail)
    os.close(pipe.reader)

    output.write(b"nobody reads this\n")
    assert failed.wait(PATIENCE_S)
    output.write(b"nor this\n")
    output.close()

    assert output.failure is not None
    assert output.failure.errno == errno.EPIPE
    assert output.dropped == 2
    assert len(failures) == 1


def test_a_full_disk() -> None:
    failed = threading.Event()
    output = LineOutput.open_file(Path("/dev/full"), failed.set)

    output.write(b"no room\n")
    assert failed.wait(PATIENCE_S)
    output.close()

    assert output.failure is not None
    assert output.failure.errno == errno.ENOSPC
    assert output.dropped == 1


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"before\n")

    for line in (b"first\n", b"second\n"):
        output = LineOutput.open_file(path)
        output.write(line)
        output.close()

    assert path.read_bytes() == b"before\nfirst\nsecond\n"


def test_a_new_file_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    LineOutput.open_file(path).close()

    assert not stat.S_IMODE(path.stat().st_mode) & 0o007


@pytest.mark.parametrize(
    ("place", "why"),
    [
        pytest.param("none/events.jsonl", "No such file or directory", id="no-directory"),
        pytest.param(".", "Is a directory", id="a-directory"),
    ],
)
def test_a_file_that_can_not_be_opened(tmp_path: Path, place: str, why: str) -> None:
    path = tmp_path / place

    with pytest.raises(InputError, match=why) as caught:
        LineOutput.open_file(path)

    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_own_descriptor_stays_open(pipe: Pipe) -> None:
    LineOutput(pipe.writer).close()

    assert os.write(pipe.writer, b"x") == 1
