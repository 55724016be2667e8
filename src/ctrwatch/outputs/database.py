"""
The history's database: SQLite, its tables, its version, and how it is opened.

`body` has the events and the chain of hashes, `event` what they can be asked by: narrow, so that
looking through all of it is quick. `head` is the newest row. A store of an older version is
brought up to this one when it is opened, one step a version; a newer one is refused.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ctrwatch.core.hashchain import GENESIS, Head
from ctrwatch.core.rows import RowError, keys_of
from ctrwatch.errors import InputError

__all__ = ("STEPS", "VERSION", "head_of", "migrate", "open_reader", "open_writer", "said")

_APPLICATION: Final = 0x63747268  # "ctrh"; in the file's head, so that file(1) may know it
_PAGE_BYTES: Final = 8192  # three events of 2.5 KB; in pages of 4 KB each would leave half of one
_CACHE_KB: Final = 4096  # resident; what is not in it is in the kernel's own
_BUSY_S: Final = 5.0  # for another's transaction; ours take milliseconds

_USED_BY: Final = ("cpu_us", "memory_bytes", "io_bytes")
_BY: Final = ("container_id", "image", "digest", "name", "pod", "namespace", "severity")

# From each version to the next. Never change one that was released.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE body(seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, body BLOB NOT NULL)",
        """CREATE TABLE event(seq INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, event TEXT NOT NULL,
            id TEXT NOT NULL, runtime TEXT, container_id TEXT, image TEXT, digest TEXT, name TEXT,
            pod TEXT, namespace TEXT, severity TEXT)""",
        """CREATE TABLE head(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
            hash BLOB NOT NULL)""",
        f"INSERT INTO head VALUES (1, 0, x'{GENESIS.hash.hex()}')",
    ),
    (
        "CREATE INDEX event_time ON event(time_ns)",
        "CREATE INDEX event_event ON event(event, time_ns)",
        "CREATE INDEX event_id ON event(id)",
        "CREATE INDEX event_runtime ON event(runtime, time_ns) WHERE runtime IS NOT NULL",
        *(
            f"CREATE INDEX event_{column} ON event({column}, time_ns) WHERE {column} IS NOT NULL"
            for column in _BY
        ),
    ),
    (
        *(f"ALTER TABLE event ADD COLUMN {column} INTEGER" for column in _USED_BY),
        f"""UPDATE event SET ({", ".join(_USED_BY)}) = (
            SELECT {", ".join(f"ctrwatch_key('{column}', b.body)" for column in _USED_BY)}
            FROM body AS b WHERE b.seq = event.seq
        ) WHERE event IN ('container_usage', 'container_oom', 'container_remove') AND EXISTS (
            SELECT 1 FROM body AS b
            WHERE b.seq = event.seq AND instr(b.body, CAST('"usage":{{' AS BLOB)))""",
        *(
            f"CREATE INDEX event_{column} ON event({column}, time_ns) WHERE {column} IS NOT NULL"
            for column in _USED_BY
        ),
    ),
)
VERSION: Final = len(STEPS)


def open_writer(path: Path) -> sqlite3.Connection:
    """
    Open or make it. Raises InputError with what to do, or sqlite3.Error while it is busy or full.

    May be used by another thread than this one, one at a time.
    """
    _make(path)
    database = sqlite3.connect(
        os.path.abspath(path), timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        version = _version(database, path)
        if not version:
            database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        # What a crash of the machine takes is what was not synced: see docs/history.md.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        if version < VERSION:
            migrate(database)
        head_of(database)
    except BaseException:
        database.close()
        raise
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """For reading only, also while a watch writes. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such file; `ctrwatch events --store {path}` makes one")
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
    try:
        database = _reader(uri)
        try:
            version = _version(database, path)
        except sqlite3.OperationalError:
            # No -shm can be made beside it: then it is read as it stands, if all of it stands there.
            if Path(f"{path}-wal").exists() and Path(f"{path}-wal").stat().st_size:
                raise
            database.close()
            database = _reader(uri + "&immutable=1")
            version = _version(database, path)
        if not version:
            database.close()
            raise InputError(f"{path}: no history of ctrwatch's")
        if version < VERSION:
            database.close()
            _bring_up_to_date(path, version)
            database = _reader(uri)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # its messages quote the file
        raise InputError(f"{path}: {said(error)}") from None
    return database


def _bring_up_to_date(path: Path, version: int) -> None:
    """Raises InputError where who asks may not write, or nobody: an older one can't be read."""
    try:
        with closing(open_writer(path)):
            pass
    except (sqlite3.Error, InputError) as error:
        if not isinstance(error, InputError) and not _is_read_only(error):
            raise
        raise InputError(
            f"{path}: written by an older version of ctrwatch (format {version}, this one reads"
            f" {VERSION}), and it can't be brought up to date ({said(error)}); ask as one who may"
            " write it, or ask a copy"
        ) from None


def _is_read_only(error: sqlite3.Error) -> bool:
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN"))


def said(error: Exception) -> str:
    """SQLite's own word, and what to do where it has none."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "another program has it locked"
    if name.startswith("SQLITE_NOTADB"):
        return "not a database; name another file"
    if name.startswith("SQLITE_CORRUPT"):
        return f"the database is broken ({error}); move it away, and a new one is begun"
    if name.startswith("SQLITE_FULL"):
        return "no room left for it"
    return str(error)


def migrate(database: sqlite3.Connection, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Bring it up to the version that *steps* lead to; a step is whole, or not at all."""
    database.create_function("ctrwatch_key", 2, _key, deterministic=True)
    for number, step in enumerate(steps, 1):
        database.execute("BEGIN IMMEDIATE")
        try:
            # Asked in here: another program may bring it up to date at the same time.
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version >= number:
                database.rollback()
                continue
            for statement in step:
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {number}")
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute("COMMIT")
        except BaseException:
            database.rollback()
            raise


def _key(column: str, body: object) -> int | str | None:
    """What a row can be asked by that was written before it could."""
    try:
        key: int | str | None = getattr(keys_of(body), column) if isinstance(body, bytes) else None
    except RowError:
        return None
    return key


def head_of(database: sqlite3.Connection) -> Head:
    """The newest row's. Raises sqlite3.DatabaseError where there is none."""
    row = database.execute("SELECT seq, hash FROM head").fetchone()
    if row is None or not isinstance(row[0], int) or not isinstance(row[1], bytes):
        raise sqlite3.DatabaseError("the table head has no row")
    return Head(*row)


def _reader(uri: str) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    return database


def _make(path: Path) -> None:
    """For its owner and group only, as an output; SQLite's files beside it become the same."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        os.close(fd)
    except OSError as error:
        raise InputError(f"--store {path}: {error.strerror}") from None
    if not regular:
        raise InputError(f"--store {path}: not a file")


def _version(database: sqlite3.Connection, path: Path) -> int:
    """0: it is empty. Raises InputError where it is another's, or newer."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != _APPLICATION:
        if tables or version or application:
            raise InputError(f"{path}: a database, but no history of ctrwatch's; name another file")
        return 0
    if not 1 <= version <= VERSION:
        raise InputError(
            f"{path}: written by a newer version of ctrwatch"
            f" (format {version}, this one reads {VERSION}); use that, or name another file"
        )
    return int(version)
