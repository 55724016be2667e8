"""
Podman's own database: what it knows of a container before it starts it.

Up to Podman 4.7 (and later where it was there already) that is BoltDB,
`<graph root>/libpod/bolt_state.db`; since 4.8 SQLite, `db.sql` in the graph root or its
`libpod`. Both keep one JSON document a container and one a pod.

Podman's locks are not taken, so it never waits for us; and nothing is written. A reader
without a lock must see that nobody wrote meanwhile: BoltDB's meta pages tell (bolt.py),
and SQLite's file only changes while its rollback journal is there (Podman does not use
a write-ahead log).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final, NamedTuple, TypeVar

import msgspec

from ctrwatch.evidence import bolt
from ctrwatch.evidence.files import Absent, Tree, Unreadable
from ctrwatch.evidence.values import NotJsonError, from_json

__all__ = ("Container", "Pod", "Record", "Torn", "find")

_DOCUMENT_BYTES: Final = 8 << 20
_SQLITE_STEPS: Final = 100_000  # of SQLite's machine: a hundred times what a look-up needs
_CHANGE_COUNTER: Final = 24  # its offset: sqlite.org, "Database File Format", 1.3.7
_TRIES: Final = 4
_PAUSE_S: Final = 0.002  # a commit of Podman's takes about as long

T = TypeVar("T", bound=msgspec.Struct)


class Container(msgspec.Struct, frozen=True):
    """Of libpod's ContainerConfig."""

    id: str
    name: str = ""
    pod: str = ""
    image_id: str = msgspec.field(name="rootfsImageID", default="")
    image_name: str = msgspec.field(name="rootfsImageName", default="")
    asked: str = msgspec.field(name="RawImageName", default="")  # as the user wrote it
    rootfs: str = ""
    created: str = msgspec.field(name="createdTime", default="")
    labels: dict[str, str] | None = None
    infra: bool = msgspec.field(name="pause", default=False)


class Pod(msgspec.Struct, frozen=True):
    """Of libpod's PodConfig."""

    id: str
    name: str = ""


class Record(NamedTuple):
    container: Container
    pod: Pod | None


class Torn(Unreadable):
    """The database was written all the time. Asking again helps."""


def find(graph_root: Tree, container_id: str) -> Record | None:
    """
    What Podman's database under *graph_root* says of a container; None: it has none.

    Blocks for up to some milliseconds. Raises `Torn`, `Unreadable`, and `Absent` where
    there is no database.
    """
    missing = 0
    for place, search in _PLACES:
        try:
            record = _retried(search, graph_root, place, container_id)
        except Absent:
            missing += 1
            continue
        if record is not None:
            return record
    if missing == len(_PLACES):
        raise Absent(f"{graph_root.base}: no database of Podman's")
    return None


def _retried(search: _Search, root: Tree, place: str, container_id: str) -> Record | None:
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_S)
        try:
            return search(root, place, container_id)
        except Torn as error:
            torn = error
    raise torn


def _in_bolt(root: Tree, place: str, container_id: str) -> Record | None:
    fd, path = root.open(place), root.path(place)

    def value(bucket: bytes, key: str) -> bytes | None:
        values = bolt.lookup(
            lambda size, at: os.pread(fd, size, at), [(bucket, key.encode(), b"config")]
        )
        return values[0]

    try:
        document = value(b"ctr", container_id)
        if document is None:
            return None
        container = _decoded(path, document, Container)
        pod = value(b"pod", container.pod) if container.pod else None
        return Record(container, _decoded(path, pod, Pod) if pod else None)
    except bolt.Torn as error:
        raise Torn(f"{path}: {error}") from None
    except bolt.BoltError as error:
        raise Unreadable(f"{path}: {error}") from None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    finally:
        os.close(fd)


def _in_sqlite(root: Tree, place: str, container_id: str) -> Record | None:
    import sqlite3  # a megabyte, for Podman 4.8 and later

    fd, path = root.open(place), root.path(place)
    try:
        before = _sqlite_state(root, place, fd)
        try:
            record = _query(path, fd, container_id)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # its messages quote the file
            if _sqlite_state(root, place, fd) != before:
                raise Torn(f"{path}: it was written while it was read") from None
            raise Unreadable(f"{path}: {error}") from None
        if _sqlite_state(root, place, fd) != before:
            raise Torn(f"{path}: it was written while it was read")
        return record
    finally:
        os.close(fd)


def _sqlite_state(root: Tree, place: str, fd: int) -> tuple[bytes, int]:
    """What changes with every transaction: the file's counter of them, and its size."""
    if root.size(f"{place}-journal") is not None or root.size(f"{place}-wal"):
        raise Torn(f"{root.path(place)}: it is being written")
    return os.pread(fd, 4, _CHANGE_COUNTER), os.fstat(fd).st_size


def _query(path: str, fd: int, container_id: str) -> Record | None:
    import sqlite3

    # By the descriptor: the name may be a link by now. "immutable" takes no lock.
    uri = f"file:/proc/self/fd/{fd}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _DOCUMENT_BYTES)
        database.set_progress_handler(lambda: 1, _SQLITE_STEPS)
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
        row = database.execute(
            "SELECT JSON FROM ContainerConfig WHERE ID = ?", (container_id,)
        ).fetchone()
        if row is None:
            return None
        container = _decoded(path, row[0], Container)
        row = database.execute(
            "SELECT JSON FROM PodConfig WHERE ID = ?", (container.pod,)
        ).fetchone()
        return Record(container, _decoded(path, row[0], Pod) if row else None)


def _decoded(path: str, document: object, kind: type[T]) -> T:
    if not isinstance(document, str | bytes):
        raise Unreadable(f"{path}: a document that is no text")
    try:
        return from_json(document, kind)
    except NotJsonError as error:
        raise Unreadable(f"{path}: {error}") from None


_Search = Callable[[Tree, str, str], Record | None]

# Where a database was migrated, both are there and SQLite's is the present one.
_PLACES: Final[tuple[tuple[str, _Search], ...]] = (
    ("db.sql", _in_sqlite),
    ("libpod/db.sql", _in_sqlite),
    ("libpod/bolt_state.db", _in_bolt),
)
