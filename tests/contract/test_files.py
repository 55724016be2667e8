"""Files that strangers wrote: bytes or a named refusal, and nothing waits for them."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from ctrwatch.evidence.files import Absent, ParsedFiles, Readers, Unreadable, read

LIMIT = 1000


def test_reads_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * LIMIT)
    assert read(str(tmp_path / "f"), LIMIT) == b"x" * LIMIT


def test_reads_proc_where_files_have_no_size() -> None:
    assert read("/proc/self/status", 100_000).startswith(b"Name:")


@pytest.mark.parametrize("path", ["none", "file/below", "\0"])
def test_nothing_there(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unreadable) as raised:
        read(f"{tmp_path}/{path}", LIMIT)
    assert isinstance(raised.value, Absent) == (path != "\0")


def test_process_that_ended_is_absent() -> None:
    with pytest.raises(Absent):
        read(f"/proc/{1 << 22}/cmdline", LIMIT)


def make_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_large(path: Path) -> None:
    path.write_bytes(b"x" * (LIMIT + 1))


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (make_link, "a symbolic link"),
        (make_loop, "a symbolic link"),
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (make_large, "larger than 1000 bytes"),
        (make_sparse, "larger than 1000 bytes"),
    ],
    ids=["link", "loop", "fifo", "directory", "large", "sparse"],
)
def test_refused(tmp_path: Path, make: object, why: str) -> None:
    path = tmp_path / "f"
    make(path)  # type: ignore[operator]
    with pytest.raises(Unreadable, match=why) as raised:
        read(str(path), LIMIT)
    assert not isinstance(raised.value, Absent)


def test_devices_are_refused() -> None:
    with pytest.raises(Unreadable, match="not a regular file"):
        read("/dev/zero", LIMIT)


async def test_a_read_that_hangs_holds_up_no_other(tmp_path: Path, readers: Readers) -> None:
    (tmp_path / "f").write_text("here")
    let_go = threading.Event()
    hanging = [asyncio.create_task(readers.call(let_go.wait)) for _ in range(15)]
    assert await readers.read(str(tmp_path / "f"), LIMIT) == b"here"
    for task in hanging:
        task.cancel()
    assert await readers.read(str(tmp_path / "f"), LIMIT) == b"here"
    let_go.set()


async def test_work_cancelled_before_it_began_is_dropped() -> None:
    readers, let_go, begun = Readers(most=1), threading.Event(), threading.Event()
    first = asyncio.create_task(readers.call(let_go.wait))
    second = asyncio.create_task(readers.call(begun.set))
    await asyncio.sleep(0)
    second.cancel()
    let_go.set()
    assert await first
    await readers.call(lambda: None)
    assert not begun.is_set()
    readers.close()


async def test_errors_come_back(readers: Readers) -> None:
    with pytest.raises(ZeroDivisionError):
        await readers.call(lambda: 1 // 0)
    assert await readers.call(lambda: 1) == 1


async def test_threads_are_made_only_when_all_are_busy() -> None:
    readers = Readers(most=8)
    before = threading.active_count()
    for _ in range(20):
        await readers.call(lambda: None)
    assert threading.active_count() - before <= 1
    readers.close()


async def test_closed_readers_end_their_threads() -> None:
    readers = Readers(most=3)
    await asyncio.gather(*(readers.call(lambda: time.sleep(0.001)) for _ in range(9)))
    readers.close()
    deadline = time.monotonic() + 5
    while any(thread.name == "ctrwatch-read" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


async def test_parsed_once_for_each_time_it_is_written(tmp_path: Path, readers: Readers) -> None:
    path, parsed = tmp_path / "index", list[bytes]()

    def parse(raw: bytes) -> bytes:
        parsed.append(raw)
        return raw

    files = ParsedFiles(readers, parse, limit=LIMIT, most=2)
    path.write_text("one")
    assert [await files.get(str(path)) for _ in range(3)] == [b"one"] * 3
    replacement = tmp_path / "new"
    replacement.write_text("two")
    replacement.rename(path)
    assert await files.get(str(path)) == b"two"
    assert parsed == [b"one", b"two"]


async def test_holds_only_the_files_used_last(tmp_path: Path, readers: Readers) -> None:
    parsed: list[bytes] = []
    files = ParsedFiles(readers, parsed.append, limit=LIMIT, most=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        (tmp_path / name).touch()
        (tmp_path / name).exists()
        os.utime(tmp_path / name, ns=(1, 1))
        await files.get(str(tmp_path / name))
    assert len(files._known) == 2


async def test_parse_may_refuse(tmp_path: Path, readers: Readers) -> None:
    def refuse(raw: bytes) -> None:
        raise Unreadable("index: not JSON")

    (tmp_path / "f").touch()
    files = ParsedFiles(readers, refuse, limit=LIMIT, most=2)
    with pytest.raises(Unreadable, match="not JSON"):
        await files.get(str(tmp_path / "f"))
