"""
Violations that wait to be sent, on disk: what a restart or a night without network does not lose.

SQLite, for one process: each is written before anything else is done with it, and removed when
it was taken. The file has a bound; what finds no room is counted, and the count goes with the
next one that does.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple, Self

from ctrwatch.errors import InputError

__all__ = ("BYTES", "MOST", "Backlog", "Waiting")

# A violation takes some 2 KB, and 100 KB at most: ten thousand are what one host has to say in a
# bad night, and a receiver takes in a minute. More only hides which came first.
MOST: Final = 10_000
BYTES: Final = 64 << 20
_VERSION: Final = 1
_OURS: Final = 0x63747277  # "ctrw": application_id, so that no other program's file is taken
_SCHEMA: Final = f"""
CREATE TABLE waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    alert BLOB NOT NULL,
    dropped INTEGER NOT NULL
);
PRAGMA application_id = {_OURS};
PRAGMA user_version = {_VERSION};
"""


class Waiting(NamedTuple):
    """*dropped*: how many before it found no room."""

    number: int
    id: str
    alert: bytes
    dropped: int


class Backlog:
    """
    Raises InputError where *path* can't be used: no database, not ours, in use, of a newer version.

    It may be made in one thread and used in another, by one at a time. `add`, `first` and `remove`
    may raise sqlite3.Error: a disk can be full.
    """

    def __init__(self, path: Path, *, most: int = MOST, size: int = BYTES) -> None:
        self._most, self._size = most, size
        self._count = self._bytes = 0
        self.dropped = 0
        self._untold = 0  # of those, no entry says so yet
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # for its owner only
            os.close(fd)
            self._file = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except OSError as error:
            raise InputError(f"--webhook-queue {path}: {error.strerror}") from None
        except sqlite3.Error as error:
            raise InputError(f"--webhook-queue {path}: {error}") from None
        try:
            self._open(path)
        except sqlite3.Error as error:
            self._file.close()
            why = str(error)
            if isinstance(error, sqlite3.OperationalError) and "locked" in why:
                why = "another ctrwatch uses it; end that, or name another file"
            raise InputError(f"--webhook-queue {path}: {why}") from None
        except InputError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def add(self, violation_id: str, alert: bytes) -> bool:
        """False: no room, and counted. One that waits already is not added again."""
        if self._count >= self._most or self._bytes + len(alert) > self._size:
            self.dropped += 1
            self._untold += 1
            return False
        done = self._file.execute(
            "INSERT OR IGNORE INTO waiting (id, alert, dropped) VALUES (?, ?, ?)",
            (violation_id, alert, self._untold),
        )
        if done.rowcount:
            self._count, self._bytes, self._untold = self._count + 1, self._bytes + len(alert), 0
        return True

    def missed(self, number: int) -> None:
        """As many were dropped before they came here."""
        self.dropped += number
        self._untold += number

    def first(self) -> Waiting | None:
        """The oldest."""
        row = self._file.execute(
            "SELECT number, id, alert, dropped FROM waiting ORDER BY number LIMIT 1"
        ).fetchone()
        return Waiting(*row) if row is not None else None

    def remove(self, waiting: Waiting) -> None:
        self._file.execute("DELETE FROM waiting WHERE number = ?", (waiting.number,))
        self._count, self._bytes = self._count - 1, self._bytes - len(waiting.alert)

    def _open(self, path: Path) -> None:
        run = self._file.execute
        # One process: who comes second is told so at once, not when he first writes.
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = TRUNCATE")
        # Each is on the disk before it counts as kept; 10 ms in a thread that nobody waits for.
        run("PRAGMA synchronous = FULL")
        run("BEGIN EXCLUSIVE")
        version = run("PRAGMA user_version").fetchone()[0]
        ours = run("PRAGMA application_id").fetchone()[0] == _OURS
        empty = not run("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        run("COMMIT")
        if empty and not version:
            self._file.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        elif not ours:
            raise InputError(
                f"--webhook-queue {path}: not a queue of ctrwatch's; name another file"
            )
        elif version != _VERSION:
            raise InputError(
                f"--webhook-queue {path}: written by another version of ctrwatch"
                f" (format {version}, this one reads {_VERSION})"
            )
        counted = "SELECT count(*), coalesce(sum(length(alert)), 0) FROM waiting"
        self._count, self._bytes = run(counted).fetchone()
