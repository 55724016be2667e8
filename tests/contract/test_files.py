"""Files that strangers wrote: bytes or a named refusal, and nothing waits for them."""

import asyncio
import gc
import os
import socket as socket_module
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrwatch.evidence.files import (
    LANE,
    ROOTS,
    USERS,
    Absent,
    ParsedFiles,
    Readers,
    Tree,
    Unreadable,
    read,
)

LIMIT = 1000
ME = os.getuid()
ANN, BOB = ME + 1001, ME + 1002  # two users, and neither is the one who runs this
SECRET = b"not yours"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "bundle").mkdir()
    return Tree(str(tmp_path / "bundle"), ME)


def put(tree: Tree, name: str, raw: bytes = b"") -> Path:
    """Written beside and renamed, as runtimes replace their indexes."""
    path, new = Path(tree.path(name)), Path(tree.path(f"{name}.new"))
    new.write_bytes(raw)
    return new.rename(path)


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """What hangs, until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_reads_what_is_there(tree: Tree) -> None:
    Path(tree.path("f")).write_bytes(b"x" * LIMIT)
    assert tree.read("f", LIMIT) == b"x" * LIMIT


def test_reads_proc_where_files_have_no_size() -> None:
    assert read("/proc/self/status", 100_000).startswith(b"Name:")


@pytest.mark.parametrize("name", ["none", "file/below", "\0"])
def test_nothing_there(tree: Tree, name: str) -> None:
    Path(tree.path("file")).touch()
    with pytest.raises(Unreadable) as raised:
        tree.read(name, LIMIT)
    assert isinstance(raised.value, Absent) == (name != "\0")


@pytest.mark.parametrize("base", ["", "/none/such", "/etc/passwd"])
def test_no_directory_there(base: str) -> None:
    with pytest.raises(Absent):
        Tree(base, ME).read("f", LIMIT)


def test_process_that_ended_is_absent() -> None:
    with pytest.raises(Absent):
        read(f"/proc/{1 << 22}/cmdline", LIMIT)
    with pytest.raises(Absent):
        Tree("/bundle", ME, f"/proc/{1 << 22}/root").read("f", LIMIT)


# --- whose, and what ------------------------------------------------------------------


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
def test_refused(tree: Tree, make: object, why: str) -> None:
    make(Path(tree.path("f")))  # type: ignore[operator]
    with pytest.raises(Unreadable, match=why) as raised:
        tree.read("f", LIMIT)
    assert not isinstance(raised.value, Absent)


def test_devices_are_refused() -> None:
    with pytest.raises(Unreadable, match="not a regular file"):
        Tree("/dev", 0).read("zero", LIMIT)


def test_sockets_are_refused(socket: Path) -> None:
    with socket_module.socket(socket_module.AF_UNIX) as made:
        made.bind(str(socket))
        with pytest.raises(Unreadable, match="not a regular file"):
            Tree(str(socket.parent), ME).read(socket.name, LIMIT)


@pytest.mark.parametrize("uid", [ME + 1, 0 if ME else 1000], ids=["another", "root-or-not"])
def test_what_belongs_to_another_user_is_refused(tree: Tree, uid: int) -> None:
    Path(tree.path("f")).write_bytes(SECRET)
    with pytest.raises(Unreadable, match=f"it belongs to uid {ME}, the container to {uid}"):
        tree._replace(uid=uid).read("f", LIMIT)


def test_a_fifo_is_not_even_opened(tree: Tree) -> None:
    """A writer that waits for a reader goes on waiting."""
    os.mkfifo(tree.path("f"))
    with pytest.raises(Unreadable):
        tree.read("f", LIMIT)
    with pytest.raises(OSError, match="No such device"):  # ENXIO: nobody reads
        os.open(tree.path("f"), os.O_WRONLY | os.O_NONBLOCK)


def test_reading_does_not_touch_the_access_time(tree: Tree) -> None:
    path = Path(tree.path("f"))
    path.touch()
    os.utime(path, ns=(1, 1))
    tree.read("f", LIMIT)
    assert path.stat().st_atime_ns == 1


# --- links ----------------------------------------------------------------------------


def test_a_link_on_the_way_is_followed(tree: Tree, tmp_path: Path) -> None:
    """/var/run is /run; on some hosts /home is /var/home, and ~/.local/share a larger disk."""
    Path(tree.path("f")).write_text("here")
    (tmp_path / "absolute").symlink_to(tmp_path / "bundle")
    (tmp_path / "relative").symlink_to("absolute/../bundle")
    for name in ("absolute", "relative"):
        assert Tree(str(tmp_path / name), ME).read("f", LIMIT) == b"here"


@pytest.mark.parametrize(
    "target", ["/outside", "../../../../../outside", "/proc/self/root/outside"]
)
def test_a_link_stays_in_its_creators_root(tmp_path: Path, target: str) -> None:
    """What leads out of a container leads nowhere, or to what the container has there."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/f").write_bytes(SECRET)
    (tmp_path / "root/home").mkdir(parents=True)
    (tmp_path / "root/home/bundle").symlink_to(
        target if target.startswith("/proc") else target.replace("/outside", f"{tmp_path}/outside")
    )
    tree = Tree("/home/bundle", ME, str(tmp_path / "root"))
    with pytest.raises(Unreadable):
        tree.read("f", LIMIT)
    inner = tmp_path / "root" / str(tmp_path)[1:] / "outside"
    inner.mkdir(parents=True)
    (inner / "f").write_text("inside")
    if not target.startswith("/proc"):
        assert tree.read("f", LIMIT) == b"inside"


def test_dots_stay_in_the_creators_root(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(SECRET)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/f").write_text("inside")
    assert Tree("/../..", ME, str(tmp_path / "root")).read("f", LIMIT) == b"inside"


def test_magic_links_lead_nowhere(tree: Tree) -> None:
    """/proc/self/cwd, on a creator's way, would be ctrwatch's own."""
    with pytest.raises(Unreadable, match="a symbolic link"):
        Tree("/proc/self/cwd", ME).read("pyproject.toml", LIMIT)


def test_below_its_directory_no_link_is_followed(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/f").write_bytes(SECRET)
    Path(tree.path("images")).symlink_to(tmp_path / "elsewhere")
    for name in ("images/f", "../elsewhere/f"):
        with pytest.raises(Unreadable):
            tree.read(name, LIMIT)


def test_a_directory_that_is_swapped_all_the_time(tree: Tree, tmp_path: Path) -> None:
    """Whatever is there at the moment: never the file that a link leads to."""
    mine, foreign = tmp_path / "mine", tmp_path / "foreign"
    for directory, text in ((mine, b"mine"), (foreign, SECRET)):
        directory.mkdir()
        (directory / "f").write_bytes(text)
    place, spare, over = Path(tree.path("d")), Path(tree.path("spare")), threading.Event()
    mine.rename(place)

    def swap() -> None:
        while not over.is_set():
            place.rename(spare)
            place.symlink_to(foreign)
            time.sleep(0)  # the reader's turn
            place.unlink()
            spare.rename(place)
            time.sleep(0)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[bytes] = set()
    deadline = time.monotonic() + 10
    try:
        while not {b"mine", b"a symbolic link"} <= seen:
            assert time.monotonic() < deadline
            try:
                seen.add(tree.read("d/f", LIMIT))
            except Unreadable as error:
                seen.add(str(error).partition(": ")[2].encode())
    finally:
        over.set()
        swapping.join()
    assert seen <= {b"mine", b"a symbolic link", b"No such file or directory"}


def test_a_file_that_is_swapped_is_one_or_the_other(tree: Tree) -> None:
    """It is read by its descriptor: never half of one and half of another."""
    path, over = Path(tree.path("f")), threading.Event()
    path.write_bytes(b"0" * LIMIT)

    def swap() -> None:
        for number in range(1 << 30):
            if over.is_set():
                return
            new = path.with_name("new")
            new.write_bytes(b"%d" % (number % 10) * LIMIT)
            new.rename(path)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(500):
            assert len(set(tree.read("f", LIMIT))) == 1
    finally:
        over.set()
        swapping.join()


def test_a_file_that_grows_all_the_time_ends_at_its_bound(tree: Tree) -> None:
    path, over = Path(tree.path("f")), threading.Event()
    path.touch()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not over.is_set():
                file.write(b"x" * 4096)
                if file.tell() > 64 << 20:
                    file.truncate(0)

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        for _ in range(20):
            try:
                assert len(tree.read("f", 1 << 20)) <= 1 << 20
            except Unreadable as error:
                assert str(error).endswith("larger than 1048576 bytes")  # noqa: PT017
    finally:
        over.set()
        growing.join()


# --- threads --------------------------------------------------------------------------


async def test_a_user_whose_files_hang_holds_up_no_other(
    tree: Tree, readers: Readers, let_go: threading.Event
) -> None:
    put(tree, "f", b"here")
    hanging = [asyncio.create_task(readers.call(let_go.wait, ANN)) for _ in range(100)]
    await asyncio.sleep(0)
    for lane in (BOB, tree.lane):
        assert await readers.call(lambda: tree.read("f", LIMIT), lane) == b"here"
    assert threads() <= LANE + 2
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    assert await readers.call(lambda: tree.read("f", LIMIT), BOB) == b"here"


async def test_all_users_together_hold_up_root_not(
    readers: Readers, let_go: threading.Event
) -> None:
    """A user has 65,536 more ids to make containers with (subuid)."""
    users = [
        asyncio.create_task(readers.call(let_go.wait, uid))
        for uid in range(100_000, 100_100)
        for _ in range(LANE)
    ]
    await asyncio.sleep(0)
    place = Tree("/run/containerd/x", 0)
    assert await readers.call(lambda: "in time", place.lane) == "in time"
    assert threads() <= USERS + 1
    for task in users:
        task.cancel()
    await asyncio.gather(*users, return_exceptions=True)


async def test_a_place_of_roots_that_hangs_holds_up_no_other(
    readers: Readers, let_go: threading.Event
) -> None:
    dead = [Tree(f"/mnt/dead/bundles/{name}", 0) for name in range(100)]
    hanging = [asyncio.create_task(readers.call(let_go.wait, tree.lane)) for tree in dead]
    await asyncio.sleep(0)
    assert await readers.call(lambda: 1, Tree("/run/containerd/x", 0).lane) == 1
    assert threads() <= LANE + 1 < ROOTS
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_what_nobody_waits_for_is_forgotten(
    readers: Readers, let_go: threading.Event
) -> None:
    """Questions are asked again while the file system hangs: for hours, if it does."""
    for _ in range(100):
        tasks = [asyncio.create_task(readers.call(let_go.wait, ANN)) for _ in range(LANE)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert readers._jobs.qsize() <= LANE  # those that have not begun, but are no more
    let_go.set()
    assert await readers.call(lambda: 1, ANN) == 1
    del task, tasks
    deadline = time.monotonic() + 5
    while readers._lanes:  # until the threads have let go, too
        assert time.monotonic() < deadline
        gc.collect()
        await asyncio.sleep(0)


def threads() -> int:
    return sum(thread.name == "ctrwatch-read" for thread in threading.enumerate())


async def test_work_cancelled_before_it_began_is_dropped(
    readers: Readers, let_go: threading.Event
) -> None:
    begun = threading.Event()
    first = [asyncio.create_task(readers.call(let_go.wait, ANN)) for _ in range(LANE)]
    late = asyncio.create_task(readers.call(begun.set, ANN))
    await asyncio.sleep(0)
    late.cancel()
    let_go.set()
    assert await asyncio.gather(*first) == [True] * LANE
    await readers.call(lambda: None, ANN)
    assert not begun.is_set()


async def test_errors_come_back(readers: Readers) -> None:
    with pytest.raises(ZeroDivisionError):
        await readers.call(lambda: 1 // 0)
    assert await readers.call(lambda: 1) == 1


async def test_threads_are_made_only_when_all_are_busy(readers: Readers) -> None:
    before = threads()
    for _ in range(20):
        await readers.call(lambda: None)
    assert threads() - before <= 1


async def test_closed_readers_end_their_threads() -> None:
    readers, before = Readers(), threads()
    await asyncio.gather(*(readers.call(lambda: time.sleep(0.001)) for _ in range(9)))
    readers.close()
    deadline = time.monotonic() + 5
    while threads() > before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


# --- parsed files ---------------------------------------------------------------------


async def test_parsed_once_for_each_time_it_is_written(tree: Tree, readers: Readers) -> None:
    parsed: list[bytes] = []

    def parse(raw: bytes) -> bytes:
        parsed.append(raw)
        return raw

    files = ParsedFiles(readers, parse, limit=LIMIT, most=2)
    put(tree, "index", b"one")
    assert [await files.get(tree, "index") for _ in range(3)] == [b"one"] * 3
    put(tree, "index", b"two")
    assert await files.get(tree, "index") == b"two"
    assert parsed == [b"one", b"two"]


async def test_what_is_remembered_is_its_owners(tree: Tree, readers: Readers) -> None:
    put(tree, "index", SECRET)
    files = ParsedFiles(readers, bytes, limit=LIMIT, most=2)
    assert await files.get(tree, "index") == SECRET
    with pytest.raises(Unreadable, match="belongs to"):
        await files.get(tree._replace(uid=ME + 1), "index")


async def test_holds_only_the_files_used_last(tree: Tree, readers: Readers) -> None:
    parsed: list[bytes] = []
    files = ParsedFiles(readers, parsed.append, limit=LIMIT, most=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        put(tree, name)
        await files.get(tree, name)
    assert len(files._known) == 2


async def test_parse_may_refuse(tree: Tree, readers: Readers) -> None:
    def refuse(raw: bytes) -> None:
        raise Unreadable("index: not JSON")

    put(tree, "f")
    files = ParsedFiles(readers, refuse, limit=LIMIT, most=2)
    with pytest.raises(Unreadable, match="not JSON"):
        await files.get(tree, "f")
