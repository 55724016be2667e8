"""Lines to a descriptor: whole, in order, and nobody waits for a reader that does not read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctrwatch.errors import InputError
from ctrwatch.outputs import lines
from ctrwatch.outputs.lines import LineOutput
from ctrwatch.outputs.sink import Sink

F_SETPIPE_SZ = 1031
PATIENCE_S = 10  # for a thing that comes at once where all is well
ROOM_BYTES = 1 << 20


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s
        os.sched_yield()


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


def test_what_the_kernel_takes_without_waiting_is_written_at_once(pipe: Pipe) -> None:
    output = LineOutput(pipe.writer)
    until(lambda: output._idle)

    output.write(b"a line\n")

    # On Linux before 6.4 a pipe can't promise that, and the thread writes it.
    if output._sink._takes:
        assert select.select([pipe.reader], [], [], 0)[0], "it is there before anybody was woken"
    output.close()
    os.close(pipe.writer)
    assert pipe.read_all() == b"a line\n"


def test_a_socket_is_offered_lines_if_it_takes_them_whole() -> None:
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    tcp = socket.create_connection(listener.getsockname())
    with ours, theirs, listener, tcp:
        assert Sink(ours.fileno()).offer(b"x\n")
        assert theirs.recv(9) == b"x\n"
        assert not Sink(ours.fileno()).offer(b"x" * 4097)
        assert not Sink(tcp.fileno()).offer(b"x\n")


def test_a_pipe_that_is_full_or_has_no_reader_is_left_to_the_thread(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    while sink.offer(b"x" * 1000):
        pass
    os.close(pipe.reader)

    assert not sink.offer(b"x\n")
    with pytest.raises(BrokenPipeError):
        sink.write([b"x\n"], lambda _: None)


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

    assert output.dropped == 24  # 13 did not fit, 10 were never taken, one is half there
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


def test_a_full_disk_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    failed = threading.Event()
    output = LineOutput.open_file(Path("/dev/full"), failed.set)

    for number in range(3):
        output.write(b"no room\n")
        until(lambda number=number: output.dropped > number)  # type: ignore[misc]
    output.close()

    assert output.trouble is not None
    assert output.trouble.errno == errno.ENOSPC
    assert (output.dropped, output.failure, failed.is_set()) == (3, None, False)
    assert len(caplog.messages) == 1  # once, when it begins
    assert "/dev/full: No space left on device" in caplog.messages[0]


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file with room for 1,000 bytes: the kernel takes a part, then refuses, as a full disk does."""
    monkeypatch.setattr(lines, "_RETRY_S", 0.01)
    path = tmp_path / "events.jsonl"
    path.touch()
    os.truncate(path, ROOM_BYTES - 1001)
    with path.open("ab") as file:
        file.write(b"\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, limits[1]))
    yield path
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def more_room() -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * ROOM_BYTES, hard))


def tail(path: Path) -> list[bytes]:
    return path.read_bytes()[ROOM_BYTES - 1000 :].splitlines(keepends=True)


def test_a_line_that_fits_by_half_is_not_there(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resumed: list[int] = []

    begun_ns = time.time_ns()

    def say(dropped: int, since_ns: int) -> bytes:
        assert begun_ns < since_ns < time.time_ns()
        resumed.append(dropped)
        return b"%d missing\n" % dropped

    output = LineOutput.open_file(small_disk, on_resumed=say)
    output.write(b"a" * 599 + b"\n")
    output.write(b"b" * 599 + b"\n")
    until(lambda: output.dropped == 1)
    assert tail(small_disk) == [b"a" * 599 + b"\n"]

    more_room()
    until(lambda: output.trouble is None)  # nobody has to write for that
    output.write(b"c" * 599 + b"\n")
    output.close()

    assert tail(small_disk) == [b"a" * 599 + b"\n", b"1 missing\n", b"c" * 599 + b"\n"]
    assert output.dropped == 1
    assert caplog.messages[-1] == f"{small_disk}: written again; 1 lines are missing"


def test_of_a_batch_the_whole_lines_stay(small_disk: Path) -> None:
    fd = os.open(small_disk, os.O_WRONLY | os.O_APPEND)
    wrote: list[int] = []

    with pytest.raises(OSError, match="No space left"):
        Sink(fd).write([b"%d" % number * 299 + b"\n" for number in range(5)], wrote.append)
    os.close(fd)

    assert sum(wrote) == 3
    assert tail(small_disk) == [b"%d" % number * 299 + b"\n" for number in range(3)]


def test_without_append_mode_the_next_line_stands_where_the_half_was(small_disk: Path) -> None:
    """As with `ctrwatch events > FILE`."""
    fd = os.open(small_disk, os.O_WRONLY)
    os.lseek(fd, 0, os.SEEK_END)
    sink = Sink(fd)
    with pytest.raises(OSError, match="No space left"):
        sink.write([b"x" * 1999 + b"\n"], lambda _: None)

    sink.write([b"y" * 99 + b"\n"], lambda _: None)
    os.close(fd)

    assert tail(small_disk) == [b"y" * 99 + b"\n"]


def test_half_a_line_that_somebody_left_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"whole\nha")

    output = LineOutput.open_file(path)
    output.write(b"ours\n")
    output.write(b"too\n")
    output.close()

    assert path.read_bytes() == b"whole\nha\nours\ntoo\n"


def test_two_who_append_to_one_file_tear_no_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sent = [[b"%s%d " % (who, n) + b"x" * (37 * n % 9001) + b"\n" for n in range(601)]
            for who in (b"a", b"b")]  # fmt: skip
    outputs = [LineOutput.open_file(path) for _ in sent]

    for pair in zip(*sent, strict=True):
        for output, line in zip(outputs, pair, strict=True):
            output.write(line)
    for output in outputs:
        output.close()

    written = path.read_bytes().splitlines(keepends=True)
    assert [line for line in written if line[:1] == b"a"] == sent[0]
    assert [line for line in written if line[:1] == b"b"] == sent[1]
    assert len(written) == 2 * 601


def test_a_reader_that_comes_back_finds_one_gap_with_its_number(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    output = LineOutput(pipe.writer, on_resumed=lambda dropped, _: b"%d missing\n" % dropped)
    output.write(b"x" * pipe.size + b"\n")
    pipe.until_full()
    monkeypatch.setattr(lines, "_BYTES", 1000)
    for number in range(100, 123):
        output.write(b"%d" % number + b"y" * 96 + b"\n")
    assert output.dropped == 13
    assert caplog.messages == ["standard output: nobody reads it; lines are dropped"]

    received: list[bytes] = []
    reading = threading.Thread(target=lambda: received.append(pipe.read_all()))
    reading.start()
    until(lambda: not output.full)  # nobody has to write for that
    output.write(b"after\n")
    output.close()
    os.close(pipe.writer)
    reading.join(PATIENCE_S)

    got = received[0].splitlines()
    assert [line[:3] for line in got[1:11]] == [b"%d" % number for number in range(100, 110)]
    assert got[11:] == [b"13 missing", b"after"]
    assert caplog.messages[1:] == ["standard output: written again; 13 lines are missing"]


def test_what_is_first_is_called_before_its_line_is_there(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    seen: list[bool] = []
    output = LineOutput.open_file(path)
    for number in range(23):
        line = b"%d\n" % number
        output.write(line, first=lambda line=line: seen.append(line in path.read_bytes()))  # type: ignore[misc]
    output.close()

    assert seen == [False] * 23


def test_what_is_then_is_called_after_its_line_is_there(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    seen: list[bool] = []
    output = LineOutput.open_file(path)
    for number in range(23):
        line = b"%d\n" % number
        output.write(line, then=lambda line=line: seen.append(line in path.read_bytes()))  # type: ignore[misc]
    output.close()

    assert seen == [True] * 23


def test_of_a_line_that_cannot_be_written_nothing_is_then_said() -> None:
    seen: list[bool] = []
    with open("/dev/full", "wb") as full:
        output = LineOutput(full.fileno())
        output.write(b"an end\n", then=lambda: seen.append(True))
        output.close()

    assert seen == []


def test_a_file_that_was_renamed_is_made_anew_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sent = [b"%d\n" % number for number in range(1009)]
    output = LineOutput.open_file(path)
    for number, line in enumerate(sent):
        if number == 503:
            until(lambda: path.stat().st_size > 0)  # or all of them go into the new one
            path.rename(tmp_path / "events.jsonl.1")
            output.reopen()
        output.write(line)
    output.close()

    before, after = (tmp_path / "events.jsonl.1").read_bytes(), path.read_bytes()
    assert before + after == b"".join(sent)
    assert not before or before.endswith(b"\n")  # its thread may not have begun by then
    assert after.endswith(b"1008\n")


def test_a_path_that_can_not_be_opened_again_leaves_the_old_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, moved = tmp_path / "events.jsonl", tmp_path / "moved"
    output = LineOutput.open_file(path)
    path.rename(moved)
    path.mkdir()
    output.reopen()
    output.write(b"goes on\n")
    output.close()

    assert moved.read_bytes() == b"goes on\n"
    assert caplog.messages == [f"{path}: Is a directory; it goes on as before"]


def test_what_is_written_after_a_turn_goes_elsewhere_and_what_was_before_does_not(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    output = LineOutput.open_file(paths[0])
    for number in range(3003):
        if number in (1001, 2002):
            path = paths[number // 1001]
            output.turn(lines.opened(path), path)
        output.write(b"%d\n" % number)
    output.close()

    sent = [b"".join(b"%d\n" % number for number in range(at, at + 1001)) for at in (0, 1001, 2002)]
    assert [path.read_bytes() for path in paths] == sent


def test_a_turn_and_back_leaves_a_pipe_open(pipe: Pipe, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    output = LineOutput(pipe.writer)
    output.write(b"pipe\n")
    output.turn(lines.opened(path), path)
    output.write(b"file\n")
    output.turn(os.dup(pipe.writer))
    output.write(b"pipe again\n")
    output.close()
    os.close(pipe.writer)

    assert pipe.read_all() == b"pipe\npipe again\n"
    assert path.read_bytes() == b"file\n"


def test_a_file_that_is_renamed_while_the_turn_to_it_waits_is_made_anew(
    pipe: Pipe, tmp_path: Path
) -> None:
    path, before = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
    output = LineOutput(pipe.writer)
    output.write(b"x" * (pipe.size + 1))  # its last byte waits in write(2)
    pipe.until_full()
    output.write(b"pipe\n")
    output.turn(lines.opened(path), path)
    path.rename(before)
    output.reopen()
    output.write(b"file\n")
    assert os.read(pipe.reader, pipe.size + 1)
    output.close()
    os.close(pipe.writer)

    assert pipe.read_all().endswith(b"xpipe\n")
    assert before.read_bytes() == b""
    assert path.read_bytes() == b"file\n"


def test_a_full_disk_is_left_for_another(small_disk: Path, tmp_path: Path) -> None:
    """What is told after the turn is not dropped with what waits for the full disk."""
    path = tmp_path / "other.jsonl"
    output = LineOutput.open_file(
        small_disk, on_resumed=lambda dropped, _: b"%d missing\n" % dropped
    )
    output.write(b"x" * ROOM_BYTES * 2 + b"\n")
    until(lambda: output.trouble is not None)
    output.write(b"y" * ROOM_BYTES * 2 + b"\n")
    output.turn(lines.opened(path), path)
    output.write(b"after\n")
    output.close()

    assert path.read_bytes() == b"1 missing\nafter\n"  # the other found room for its word
    assert output.dropped == 2


def test_where_lines_may_not_turn_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    for path, says in ((tmp_path, "Is a directory"), (tmp_path / "fifo", "No such device")):
        with pytest.raises(InputError, match=f"{path}: {says}"):
            lines.opened(path)
    with pytest.raises(InputError, match="/dev/null: not a file"):
        lines.opened(Path("/dev/null"))


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
