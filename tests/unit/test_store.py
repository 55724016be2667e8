"""The history on disk: what is told becomes rows, whatever happens to the file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from ctrwatch.core import rows
from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.hashchain import GENESIS, Head, link_hash
from ctrwatch.errors import InputError
from ctrwatch.event import Bill, ContainerEvent, EventName, Violation, WatchGap
from ctrwatch.model import Runtime
from ctrwatch.outputs import store as module
from ctrwatch.outputs.database import STEPS, VERSION, migrate
from ctrwatch.outputs.history import Asked, History
from ctrwatch.outputs.store import Keep, Store
from tests.unit.test_render import TIME, WEB

DEADLINE_S = 10.0


def event(number: int, name: EventName = "container_create", **fields: object) -> ContainerEvent:
    return msgspec.structs.replace(
        WEB,
        event=name,
        id=f"{number:032x}",
        time=rfc3339(wall_ns(TIME) + number * 1_000_000),
        **fields,
    )


VIOLATION = Violation(
    id="v1", time=TIME, host="node-1", policy="p", rule="r", severity="high", tags=(),
    message="=bad", event_id="1", runtime=Runtime.DOCKER, container_id="c" * 64,
)  # fmt: skip


@contextmanager
def storing(path: Path, keep: Keep | None = None) -> Iterator[Store]:
    store = Store(path, "node-1", keep or Keep(days=36_500))
    store.start()
    try:
        yield store
    finally:
        store.close()


def until(what: str, holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        os.sched_yield()


def kept(path: Path, asked: Asked | None = None) -> list[rows.Kept]:
    with History(path) as history:
        return list(history.events(asked))


def test_what_is_added_is_there_in_order_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    told: list[rows.Kept] = [
        event(1),
        event(2, "container_update", changed=("container_image",)),
        VIOLATION,
    ]
    with storing(path) as store:
        for each in told:
            store.add(each)

    assert sorted(map(repr, kept(path))) == sorted(map(repr, told))
    with History(path) as history:
        proof = history.verify()
        assert proof.findings == []
        assert (proof.rows, proof.end) == (3, store.head)
    assert path.stat().st_mode & 0o777 == 0o640


# --- asking -----------------------------------------------------------------------------


def ids(path: Path, asked: Asked) -> list[int]:
    with History(path) as history:
        return [int(row.keys.id, 16) for row in history.rows(asked)]


@pytest.fixture(scope="module")
def asked_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "history.db"
    with storing(path) as store:
        store.add(event(1, container_image="docker.io/library/nginx:1.27"))
        store.add(event(2, container_image="docker.io/library/redis:7", runtime=Runtime.PODMAN))
        store.add(event(3, container_image="quay.io/x/nginx@sha256:ab", container_name="a%b_c*d"))
        store.add(event(4, "container_remove", container_id="feed" + "0" * 60, pod_name="other"))
        store.add(event(5, container_image_digest="", pod_namespace="", container_name=""))
    return path


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param(Asked(), [1, 2, 3, 4, 5], id="all"),
        pytest.param(Asked(image="docker.io/library/redis:7"), [2], id="image"),
        pytest.param(Asked(image="*nginx*"), [1, 3, 4, 5], id="image-glob"),
        pytest.param(Asked(image="docker.io/library/nginx[:@]*"), [1, 4, 5], id="image-any-tag"),
        pytest.param(Asked(digest="sha256:ddd*"), [1, 2, 3, 4], id="digest"),
        pytest.param(Asked(runtime="podman"), [2], id="runtime"),
        pytest.param(Asked(pod="oth*"), [4], id="pod"),
        pytest.param(Asked(namespace="shop"), [1, 2, 3, 4], id="namespace"),
        pytest.param(Asked(name="a%b_c[*]d"), [3], id="name-literal"),
        pytest.param(Asked(name="a?b*"), [3], id="name-glob"),
        pytest.param(Asked(id="feed"), [4], id="container-id"),
        pytest.param(Asked(id=f"{2:032x}"), [2], id="event-id"),
        pytest.param(Asked(id="*"), [], id="id-is-no-glob"),
        pytest.param(Asked(events=("container_remove",)), [4], id="event"),
        pytest.param(Asked(since_ns=wall_ns(TIME) + 3_000_000), [3, 4, 5], id="since"),
        pytest.param(Asked(until_ns=wall_ns(TIME) + 3_000_000), [1, 2], id="until"),
        pytest.param(Asked(limit=2), [4, 5], id="newest"),
        pytest.param(Asked(limit=1, image="*nginx*", runtime="containerd"), [5], id="several"),
    ],
)
def test_rows_are_found_by(asked_of: Path, asked: Asked, found: list[int]) -> None:
    assert ids(asked_of, asked) == found


def test_a_violation_is_found_by_its_severity(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with storing(path) as store:
        store.add(event(1))
        store.add(VIOLATION)

    assert kept(path, Asked(severities=("high", "critical"))) == [VIOLATION]
    assert kept(path, Asked(severities=("low",))) == []
    assert kept(path, Asked(events=("violation",))) == [VIOLATION]


def test_every_event_of_containers_since_then_is_whole(asked_of: Path) -> None:
    with History(asked_of) as history:
        events = list(history.container_events(wall_ns(TIME) + 4_000_000))

    assert [each.id for each in events] == [f"{4:032x}", f"{5:032x}"]
    assert events[0].labels == WEB.labels


# --- the chain ----------------------------------------------------------------------------

TAMPERED = {
    "changed": (
        "UPDATE body SET body = CAST(replace(CAST(body AS TEXT), 'nginx', 'ngimx') AS BLOB) WHERE seq = 5",
        "row 5: changed",
    ),
    "its kind changed": ("UPDATE body SET body = CAST(body AS TEXT) WHERE seq = 5", "row 5: changed"),
    "index changed": ("UPDATE event SET image = 'other' WHERE seq = 5", "row 5: can be asked by"),
    "missing": ("DELETE FROM body WHERE seq IN (5, 6)", "rows 5–6: missing"),
    "first missing": ("DELETE FROM body WHERE seq = 1", "row 1: missing"),
    "last missing": (
        "DELETE FROM body WHERE seq = 9; DELETE FROM event WHERE seq = 9",
        "row 9: missing: the history's newest",
    ),
    "out of the index": ("DELETE FROM event WHERE seq = 5", "row 5: can be asked by"),
    "put in": (
        ("UPDATE body SET seq = -seq WHERE seq > 4; UPDATE body SET seq = 1 - seq WHERE seq < 0;"
        " INSERT INTO body SELECT 5, hash, body FROM body WHERE seq = 4;"
        " UPDATE head SET seq = 10"),
        "rows 5–10: not in the order",
    ),
    "put after": (
        "INSERT INTO body SELECT 10, hash, body FROM body WHERE seq = 4",
        "row 10: changed",
    ),
    "re-ordered": (
        ("UPDATE body SET seq = -5 WHERE seq = 5; UPDATE body SET seq = 5 WHERE seq = 6;"
        " UPDATE body SET seq = 6 WHERE seq = -5"),
        "rows 5–7: not in the order",
    ),
    "only in the index": (
        ("INSERT INTO event SELECT 77, time_ns, event, id, runtime, container_id, image, digest,"
        " name, pod, namespace, severity, NULL, NULL, NULL FROM event WHERE seq = 4"),
        "row 77: can be asked for",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_done_to_a_row_is_found(tmp_path: Path, how: str) -> None:
    path = tmp_path / "history.db"
    with storing(path) as store:
        for number in range(1, 10):
            store.add(event(number))
    script, says = TAMPERED[how]
    with closing(sqlite3.connect(path)) as database:
        database.executescript(script)

    with History(path) as history:
        findings = history.verify().findings

    assert any(str(finding).startswith(says) for finding in findings), findings


def test_a_chain_made_anew_is_found_by_a_head_that_was_kept(tmp_path: Path) -> None:
    path, other = tmp_path / "history.db", tmp_path / "other.db"
    heads = []
    for place, image in ((path, "a"), (other, "b")):
        with storing(place) as store:
            store.add(event(1, container_image=image))
            store.add(event(2))
        heads.append(store.head)
    head = heads[0]

    with History(path) as history:
        assert history.verify([head]).findings == []
    with History(other) as history:
        assert history.verify().findings == []
        [finding] = history.verify([head]).findings
    assert str(finding).startswith("row 2: is not the one")


# --- what is too old, or too much -----------------------------------------------------------


def test_what_is_too_old_goes_and_the_chain_holds(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    old, new = time.time_ns() - 2 * 86_400 * 10**9, rfc3339(time.time_ns())
    with storing(path) as store:
        for number in range(1, 1502):
            store.add(msgspec.structs.replace(event(number), time=rfc3339(old + number)))
        store.add(msgspec.structs.replace(event(7777), time=new))
    with storing(path, Keep(days=1)) as store:
        until("pruned", lambda: store.head.seq >= 1504)

    with History(path) as history:
        left = [row.seq for row in history.rows()]
        proof = history.verify([Head(7, bytes(32))])
    assert left[0] == 1502
    assert proof.begin.seq == 1501
    assert ["was pruned" in str(finding) for finding in proof.findings] == [True]
    pruned = [each for each in kept(path) if isinstance(each, rows.HistoryPruned)]
    assert [(each.first, each.last, each.reason) for each in pruned] == [
        (1, 1000, "age"),
        (1001, 1501, "age"),
    ]


def test_what_is_too_much_goes_and_the_chain_holds(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with storing(path, Keep(days=36_500, megabytes=4)) as store:
        for number in range(1, 4001):
            store.add(event(number))
            if number % 500 == 0:
                until("written", lambda: not store._waiting)

    assert path.stat().st_size < 8 << 20
    with History(path) as history:
        proof = history.verify()
        assert proof.findings == []
        assert proof.begin.seq >= 1000


def test_rows_taken_from_the_beginning_are_not_taken_for_pruned(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with storing(path) as store:
        for number in range(1, 10):
            store.add(event(number))
    with closing(sqlite3.connect(path)) as database:
        database.executescript("DELETE FROM body WHERE seq < 4; DELETE FROM event WHERE seq < 4")

    with History(path) as history:
        assert [str(each) for each in history.verify().findings] == ["rows 1–3: missing"]


# --- files that can't be used ----------------------------------------------------------------


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE dogs(name TEXT)")


def newer(path: Path) -> None:
    with storing(path):
        pass
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")


def headless(path: Path) -> None:
    with storing(path):
        pass
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM head")


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("so many words " * 999), "not a database"),
    "another program's": (foreign, "no history of ctrwatch's"),
    "newer": (newer, "newer version of ctrwatch"),
    "broken": (headless, "no row"),
    "a directory": (lambda path: path.mkdir(), "Is a directory"),
    "a fifo": (os.mkfifo, "not a file"),
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_what_can_not_be_a_store_is_said(tmp_path: Path, how: str) -> None:
    path = tmp_path / "history.db"
    make, says = UNUSABLE[how]
    make(path)

    with pytest.raises(InputError, match=says):
        Store(path, "node-1")


@pytest.mark.parametrize("how", ["text", "another program's", "newer"])
def test_what_is_no_history_is_said(tmp_path: Path, how: str) -> None:
    path = tmp_path / "history.db"
    make, says = UNUSABLE[how]
    make(path)

    with pytest.raises(InputError, match=says):
        History(path)


def test_two_can_not_write_to_one(tmp_path: Path) -> None:
    with storing(tmp_path / "history.db"), pytest.raises(InputError, match="another ctrwatch"):
        Store(tmp_path / "history.db", "node-1")


def test_one_that_another_program_has_locked_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.db"
    monkeypatch.setattr("ctrwatch.outputs.database._BUSY_S", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="another program has it locked"):
            Store(path, "node-1")


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_one_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path = tmp_path / "history.db"
    bill = Bill(cpu_seconds=1.5, memory_peak_bytes=7, io_read_bytes=1, io_write_bytes=2)
    told: list[rows.Kept] = [
        event(1), event(2, "container_remove", usage=bill),
        event(3, "container_remove"), event(4, "container_remove", usage=bill),
    ]  # fmt: skip
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, STEPS[:version])
        head = GENESIS
        for one in told[:-1]:
            head = older_row(database, head, rows.body_of(one))
    with storing(path) as store:
        assert store.head == head
        store.add(told[-1])

    assert kept(path) == told
    with History(path) as history:
        assert history.verify([head]).findings == []
        assert [row.keys.cpu_us for row in history.rows()] == [None, 1_500_000, None, 1_500_000]


def older(path: Path, version: int = 2) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, STEPS[:version])
    return path


def test_an_older_one_that_another_program_brings_up_to_date_meanwhile_is_read(
    tmp_path: Path,
) -> None:
    path = older(tmp_path / "history.db")
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as one,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):

        def overtaken(statement: str) -> None:
            if statement.startswith("BEGIN"):
                one.set_trace_callback(None)
                migrate(other)

        one.set_trace_callback(overtaken)
        migrate(one)
        assert one.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_an_older_one_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    path = older(tmp_path / "history.db")
    path.chmod(0o444)
    tmp_path.chmod(0o755)
    asking = (
        "import sys; from pathlib import Path; from ctrwatch.outputs.history import History\n"
        "from ctrwatch.errors import InputError\n"
        "try: History(Path(sys.argv[1]))\n"
        "except InputError as error: print(error)"
    )
    command = [sys.executable, "-B", "-c", asking, str(path)]
    if os.geteuid() == 0:  # who may write everywhere, but for these
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "older version of ctrwatch (format 2" in done.stdout
    assert "ask as one who may write it" in done.stdout


def older_row(database: sqlite3.Connection, head: Head, body: bytes) -> Head:
    """As a ctrwatch wrote it that did not know what containers use."""
    seq, keys = head.seq + 1, rows.keys_of(body)[:-3]
    head = Head(seq, link_hash(head.hash, seq, body))
    database.execute("INSERT INTO body VALUES (?, ?, ?)", (seq, head.hash, body))
    database.execute(f"INSERT INTO event VALUES (?{', ?' * len(keys)})", (seq, *keys))
    database.execute("UPDATE head SET seq = ?, hash = ?", head)
    return head


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as database:
        with pytest.raises(sqlite3.OperationalError):
            migrate(database, (*STEPS[:1], ("CREATE TABLE more(x)", "no such thing")))
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert (
            database.execute("SELECT name FROM sqlite_schema WHERE name = 'more'").fetchall() == []
        )


# --- while it runs ------------------------------------------------------------------------------


def test_one_that_is_locked_for_a_while_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.db"
    monkeypatch.setattr("ctrwatch.outputs.database._BUSY_S", 0.01)
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    with storing(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            store.add(event(1))
            until("locked", lambda: store.trouble)
            store.add(event(2))
            database.execute("COMMIT")
        until("written", lambda: not store.trouble and not store._waiting)

    assert store.dropped == 0
    assert kept(path) == [event(1), event(2)]


def test_what_finds_no_room_is_counted_and_the_hole_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.db"
    monkeypatch.setattr(module, "_QUEUE_BYTES", 4 * len(rows.body_of(event(1))))
    store = Store(path, "node-1", Keep(days=36_500))
    for number in range(1, 10):
        store.add(event(number))
    store.start()
    until("written", lambda: not store._waiting)
    store.add(event(10))
    store.close()

    told = kept(path)
    [gap] = [each for each in told if isinstance(each, WatchGap)]
    assert [each.id for each in told if each is not gap] == [f"{n:032x}" for n in (1, 2, 3, 4, 10)]
    assert (gap.reason, gap.lost, store.dropped) == ("output", 5, 5)
    assert gap.since < gap.until
    with History(path) as history:
        by_number = sorted(history.rows(), key=lambda row: row.seq)
        assert [row.keys.event for row in by_number].index("watch_gap") == 4


def test_one_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path, away = tmp_path / "history.db", tmp_path / "away.db"
    with storing(path) as store:
        store.add(event(1))
        until("written", lambda: not store._waiting)
        path.rename(away)
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").rename(f"{away}{end}")
        store.add(event(2))
        until("written", lambda: not store._waiting)

    assert kept(path) == [event(2)]
    assert kept(away) == [event(1)]


def test_one_that_breaks_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.db"
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    with storing(path) as store:
        store.add(event(1))
        until("written", lambda: not store._waiting)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("DROP TABLE body")
        store.add(event(2))
        until("said", lambda: store.trouble)
        assert store.dropped == 0
        path.rename(tmp_path / "broken.db")
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        until("written", lambda: not store.trouble and not store._waiting)

    assert kept(path) == [event(2)]


def test_an_idle_watch_says_that_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.db"
    monkeypatch.setattr(module, "_BEAT_S", 0.05)
    with storing(path) as store:
        until("alive", lambda: store.head.seq)

    assert kept(path) == []
    assert {type(each) for each in kept(path, Asked(events=("watch_alive",)))} == {rows.WatchAlive}


def test_a_copy_that_nobody_may_write_beside_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with storing(path) as store:
        store.add(event(1))
    place = tmp_path / "read-only"
    place.mkdir()
    path.rename(place / "copy.db")
    place.chmod(0o500)

    assert kept(place / "copy.db") == [event(1)]
