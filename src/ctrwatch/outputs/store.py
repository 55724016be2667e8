"""
`events --store FILE`: every event that leaves becomes a row of the history.

A thread of its own writes them, so a disk that is slow or full, or another who has the database
locked, holds up no event: the queue is bounded, rows wait in it until they can be written, and
those that find no room are counted. The first row after such a hole is a `watch_gap` that says
how many are missing, and since when.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Final, Literal, NamedTuple

from ctrwatch.core import rows
from ctrwatch.core.hashchain import GENESIS, Head, link_hash
from ctrwatch.core.report import Gap, watch_gap
from ctrwatch.core.rows import COLUMNS, Kept, keys_of
from ctrwatch.errors import InputError
from ctrwatch.outputs.database import head_of, open_writer, said

__all__ = ("Keep", "Store")

log = logging.getLogger(__name__)

# Four seconds of the densest storm measured (3,000 events a second of 2.5 KB). A transaction
# takes milliseconds, so only a disk that hangs or is full fills it.
_QUEUE_BYTES: Final = 32 << 20
_BATCH: Final = 1000  # rows of a transaction: more saves nothing, and a kill would take more
_RETRY_S: Final = 1.0  # between two tries on a database that can't be written to
_BEAT_S: Final = 300.0  # a row that says "alive" if there was no other; then it is synced, too
_PRUNE: Final = 1000  # rows that are removed at once: some 20 ms, in which new ones wait
_PRUNE_AGE_S: Final = 3600.0  # between looks at what has become too old
_GRACE_S: Final = 5.0  # to write what is queued, at the end
_DAY_NS: Final = 86_400_000_000_000

_INTO_BODY: Final = "INSERT INTO body(seq, hash, body) VALUES (?, ?, ?)"
_INTO_EVENT: Final = (
    f"INSERT INTO event(seq, {', '.join(COLUMNS)}) VALUES (?{', ?' * len(COLUMNS)})"
)
_Reason = Literal["age", "size"]


class Keep(NamedTuple):
    """
    How much is kept. 90 days are a quarter's audit; 2,048 MB is what 90 days take on a host
    where 2,000 containers a day are born: three events each, of 4 KB with their indexes.
    """

    days: float = 90.0
    megabytes: int = 2048

    def checked(self) -> Keep:
        """Raises InputError."""
        if not 0 < self.days <= 36_500:
            raise InputError(f"--keep-days {self.days:g}: give days, more than 0 and up to 36500")
        if not 1 <= self.megabytes <= 1 << 20:
            raise InputError(f"--keep-mb {self.megabytes}: give megabytes from 1 to 1048576")
        return self


class Store:
    """
    Opened at once, so that what is wrong with it is said at the start: raises InputError.

    `start` begins the thread; `add` may be called before, from any one thread at a time.
    """

    def __init__(self, path: Path, host: str, keep: Keep | None = None) -> None:
        self._path, self._host, self._keep = path, host, (keep or Keep()).checked()
        self._lock = _locked(path)
        try:
            self._database: sqlite3.Connection | None = open_writer(path)
            self.head, self._file = head_of(self._database), _file(path)
        except (sqlite3.Error, UnicodeDecodeError, InputError) as error:
            os.close(self._lock)
            why = said(error)
            raise InputError(f"--store {why if str(path) in why else f'{path}: {why}'}") from None
        self._waiting: deque[bytes] = deque()
        self._queued = 0
        self._missed, self._missed_since_ns = 0, 0
        self._changed = threading.Condition()
        self._ending = False
        self._deadline_s = float("inf")
        self._written_s, self._aged_s = time.monotonic(), 0.0
        self._more = True  # there may be more to prune
        self.dropped = 0  # events that are not in the history
        self.trouble = ""  # why it can't be written to now
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)

    def start(self) -> None:
        """After privileges were given up: a thread has those of the one that makes it."""
        self._thread.start()

    def add(self, event: Kept) -> None:
        """Never blocks; what finds no room is counted."""
        body = rows.body_of(event)
        with self._changed:
            # Once full, it takes events again when half of them have gone: one hole, not many.
            room = _QUEUE_BYTES // 2 if self._missed else _QUEUE_BYTES
            if self._queued + len(body) > room:
                if not self._missed:
                    self._missed_since_ns = time.time_ns()
                self._missed += 1
                self.dropped += 1
                return
            self._mark()
            self._put(body)
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued, as far as that takes no longer than five seconds."""
        with self._changed:
            self._mark()
            self._ending, self._deadline_s = True, time.monotonic() + _GRACE_S
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(2 * _GRACE_S)
        with self._changed:
            self.dropped += len(self._waiting)
        if not self._thread.is_alive():
            self._shut()
            os.close(self._lock)

    def _put(self, body: bytes) -> None:
        self._waiting.append(body)
        self._queued += len(body)

    def _mark(self) -> None:
        """Say in the history that rows are missing here."""
        if self._missed:
            now_ns = time.time_ns()
            gap = Gap(
                boot_ns=0,
                reason="output",
                since_ns=self._missed_since_ns,
                until_ns=now_ns,
                lost=self._missed,
            )
            self._put(rows.body_of(watch_gap(gap, self._host, now_ns)))
            self._missed = 0

    # --- the writer's thread --------------------------------------------------------------

    def _work(self) -> None:
        while (batch := self._take()) is not None:
            try:
                self._write(batch)
            except (sqlite3.Error, UnicodeDecodeError, InputError, OSError) as error:
                self._failed(error)

    def _take(self) -> list[bytes] | None:
        """What is written next, still in the queue; nothing: it is time to look; None: the end."""
        with self._changed:
            if self.trouble:
                self._changed.wait_for(lambda: self._ending, _RETRY_S)
            else:
                patience_s = 0 if self._more else _BEAT_S
                self._changed.wait_for(lambda: self._waiting or self._ending, patience_s)
            if self._ending and not self._waiting:
                return None
            if time.monotonic() > self._deadline_s:
                return None
            return list(islice(self._waiting, _BATCH))

    def _write(self, batch: list[bytes]) -> None:
        database, now_s = self._opened(), time.monotonic()
        alive = not batch and not self.trouble and now_s - self._written_s >= _BEAT_S - 1
        if batch:
            self._append(database, batch)
        elif alive:
            self._append(database, [rows.body_of(rows.watch_alive(self._host, time.time_ns()))])
        self._done(batch)
        self._written_s = now_s if batch or alive else self._written_s
        if alive:
            database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # and by that synced
        self._prune(database, now_s)

    def _append(self, database: sqlite3.Connection, batch: list[bytes]) -> None:
        database.execute("BEGIN IMMEDIATE")
        try:
            head = _chained(database, head_of(database), batch)
            database.execute("COMMIT")
        except BaseException:
            database.rollback()
            raise
        self.head = head

    def _done(self, batch: list[bytes]) -> None:
        with self._changed:
            for body in batch:
                self._waiting.popleft()
                self._queued -= len(body)
            if self._missed and not self._waiting:
                self._mark()
            trouble, self.trouble = self.trouble, ""
            missing = self.dropped
        if trouble:
            log.warning("%s: written again; %d events are missing so far", self._path, missing)

    def _failed(self, error: Exception) -> None:
        why = said(error)
        with self._changed:
            begins, self.trouble = not self.trouble, why or "it can't be written to"
        if begins:
            log.error(
                "%s: %s; events wait, and those that find no room are counted", self._path, why
            )
        self._shut()  # the next try opens it anew: it may have been moved away

    def _opened(self) -> sqlite3.Connection:
        if self._database is not None and _file(self._path) != self._file:
            log.warning("%s: another file is there, or none; the history goes on in it", self._path)
            self._shut()
        if self._database is None:
            self._database = open_writer(self._path)
            self._file = _file(self._path)
        return self._database

    def _shut(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

    # --- what is too old, or too much -------------------------------------------------------

    def _prune(self, database: sqlite3.Connection, now_s: float) -> None:
        used = _pragma(database, "page_count") - _pragma(database, "freelist_count")
        self._more = False
        if used * _pragma(database, "page_size") > self._keep.megabytes << 20:
            self._more = self._remove(database, "size", None)
        elif not self._aged_s or now_s - self._aged_s > _PRUNE_AGE_S:
            before_ns = time.time_ns() - int(self._keep.days * _DAY_NS)
            self._more = self._remove(database, "age", before_ns)
            self._aged_s = self._aged_s if self._more else now_s
        if _pragma(database, "freelist_count") > 4 * _PRUNE:  # the limits were lowered
            database.execute(f"PRAGMA incremental_vacuum({_PRUNE})").fetchall()

    def _remove(self, database: sqlite3.Connection, reason: _Reason, before_ns: int | None) -> bool:
        """The oldest rows, up to a thousand; whether there may be more of them."""
        database.execute("BEGIN IMMEDIATE")
        try:
            oldest = database.execute(
                "SELECT seq, time_ns FROM event ORDER BY seq LIMIT ?", (_PRUNE,)
            ).fetchall()
            if before_ns is not None:
                young = next((i for i, row in enumerate(oldest) if row[1] >= before_ns), None)
                oldest = oldest[:young]
            if oldest:
                last, until_ns = oldest[-1]
                self._forget(database, oldest[0][0], last, until_ns, reason)
            database.execute("COMMIT")
        except BaseException:
            database.rollback()
            raise
        return len(oldest) == _PRUNE

    def _forget(
        self, database: sqlite3.Connection, first: int, last: int, until_ns: int, reason: _Reason
    ) -> None:
        """The chain itself says up to where it was cut: that row is the anchor of those that stay."""
        row = database.execute("SELECT hash FROM body WHERE seq = ?", (last,)).fetchone()
        event = rows.pruned(
            self._host,
            time.time_ns(),
            reason=reason,
            first=first,
            last=last,
            hash_=bytes(row[0]) if row else GENESIS.hash,
            until_ns=until_ns,
        )
        self.head = _chained(database, head_of(database), [rows.body_of(event)])
        database.execute("DELETE FROM body WHERE seq <= ?", (last,))
        database.execute("DELETE FROM event WHERE seq <= ?", (last,))


def _chained(database: sqlite3.Connection, head: Head, batch: list[bytes]) -> Head:
    """Write rows after *head*, in the caller's transaction; the new head."""
    bodies, events = [], []
    for body in batch:
        seq = head.seq + 1
        head = Head(seq, link_hash(head.hash, seq, body))
        bodies.append((seq, head.hash, body))
        events.append((seq, *keys_of(body)))
    database.executemany(_INTO_BODY, bodies)
    database.executemany(_INTO_EVENT, events)
    database.execute("UPDATE head SET seq = ?, hash = ?", head)
    return head


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _file(path: Path) -> tuple[int, int] | None:
    """Which file it is; None: there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _locked(path: Path) -> int:
    """
    A descriptor that holds the lock of the one who writes. Raises InputError.

    Of a file beside the database: closing any descriptor of the database itself would take
    SQLite's own locks with it (POSIX).
    """
    beside = f"{path}.lock"
    try:
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        raise InputError(f"--store {beside}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise InputError(
            f"--store {path}: another ctrwatch writes to it; end that, or name another file"
        ) from None
    return fd
