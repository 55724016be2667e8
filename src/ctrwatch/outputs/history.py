"""
Reading the history, also while a watch writes it: rows by what they are asked for, and its proof.

Rows come in the order of their time, and of one time in the order in which they left. A glob is
looked for in an index that has the values alone, so a million rows take a fraction of a second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from ctrwatch.core.hashchain import GENESIS, Finding, Head, Link, breaks
from ctrwatch.core.rows import COLUMNS, HistoryPruned, Kept, Keys, RowError, event_of, keys_of
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent
from ctrwatch.outputs.database import head_of, open_reader, said

__all__ = ("QUIET", "Asked", "History", "Proof", "Row", "condition")

_WILD: Final = frozenset("*?[")
QUIET: Final = ("watch_alive", "host_usage")  # nothing that a person asks for among the others


class Asked(NamedTuple):
    """
    What is asked for; what is None or empty asks for nothing. Globs as a shell's: ``*?[``.

    *since_ns* and *until_ns* wall clock, the second not included. *id* is the beginning of a
    container's or an event's. *limit*: only the newest.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    events: Sequence[str] = ()
    severities: Sequence[str] = ()
    image: str | None = None
    digest: str | None = None
    runtime: str | None = None
    pod: str | None = None
    namespace: str | None = None
    name: str | None = None
    id: str | None = None
    limit: int | None = None


class Row(NamedTuple):
    seq: int
    keys: Keys
    body: bytes

    def event(self) -> Kept:
        """Raises RowError where another version of ctrwatch wrote it."""
        return event_of(self.keys.event, self.body)


class Proof(NamedTuple):
    """*begin*: the row before the first one, *rows* of them, *end* the newest."""

    begin: Head
    rows: int
    end: Head
    findings: list[Finding]
    more: int  # findings that are not in the list


class History:
    """`with History(path) as history: …`. Raises InputError where it can't be opened or read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = open_reader(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def head(self) -> Head:
        try:
            return head_of(self._database)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._unusable(error) from None

    def rows(self, asked: Asked | None = None) -> Iterator[Row]:
        """Oldest first; with a limit the newest ones, of those the oldest first."""
        asked = asked or Asked()
        wanted, values = condition(asked)
        columns = ", ".join(f"e.{column}" for column in COLUMNS)
        query = (
            f"SELECT e.seq, {columns}, b.body FROM {{}} AS e JOIN body AS b ON b.seq = e.seq"
            " ORDER BY e.time_ns, e.seq"
        )
        chosen = f"event AS e WHERE {wanted}"
        if asked.limit is not None:
            chosen = f"(SELECT * FROM {chosen} ORDER BY e.time_ns DESC, e.seq DESC LIMIT {asked.limit:d})"
            query = query.format(chosen)
        else:
            query = query.format("event").replace(" ORDER", f" WHERE {wanted} ORDER")
        for row in self.select(query, values):
            yield Row(row[0], Keys._make(row[1:-1]), row[-1])

    def events(self, asked: Asked | None = None) -> Iterator[Kept]:
        """Decoded; a row that another version of ctrwatch wrote, and this can't read, is left out."""
        for row in self.rows(asked):
            with suppress(RowError):
                yield row.event()

    def container_events(self, since_ns: int | None = None) -> Iterator[ContainerEvent]:
        """All events of containers since then, whole: for policies that judge them later."""
        for event in self.events(Asked(since_ns=since_ns)):
            if isinstance(event, ContainerEvent):
                yield event

    def verify(self, kept: Sequence[Head] = (), most: int = 100) -> Proof:
        """
        Look at every row. *kept*: heads that were kept elsewhere, which must be in it.

        Of what is found the first *most*; the rest is counted.
        """
        findings: list[Finding] = []
        more, number = 0, 0
        self._database.execute("BEGIN")  # one moment's rows, whoever writes
        try:
            begin, end, findings = self._begin()
            links = self._links()

            def counted() -> Iterator[Link]:
                nonlocal number
                for link in links:
                    number += 1
                    yield link

            for finding in breaks(begin, counted(), end):
                if len(findings) < most:
                    findings.append(finding)
                else:
                    more += 1
            findings += self._strays()
            findings += [one for head in kept for one in self._kept(head, begin)]
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._unusable(error) from None
        finally:
            with suppress(sqlite3.Error):
                self._database.rollback()
        return Proof(begin, number, end, findings, more)

    def _begin(self) -> tuple[Head, Head, list[Finding]]:
        """Before the first row: nothing, or what the newest word of pruning says."""
        end = head_of(self._database)
        row = self._database.execute(
            "SELECT b.body FROM event AS e JOIN body AS b ON b.seq = e.seq"
            " WHERE e.event = 'history_pruned' ORDER BY e.seq DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return GENESIS, end, []
        try:
            word = event_of("history_pruned", row[0])
            assert isinstance(word, HistoryPruned)  # noqa: S101 - that is its type
            return Head.parse(f"{word.last}:{word.hash}"), end, []
        except (RowError, InputError, TypeError):
            return GENESIS, end, [Finding(1, 1, "what was pruned is said wrongly: changed")]

    def _links(self) -> Iterator[Link]:
        columns = ", ".join(f"e.{column}" for column in COLUMNS)
        query = (
            f"SELECT b.seq, b.hash, b.body, {columns} FROM body AS b"
            " LEFT JOIN event AS e ON e.seq = b.seq ORDER BY b.seq"
        )
        for seq, hash_, body, *keys in self._database.execute(query):
            if not (isinstance(hash_, bytes) and isinstance(body, bytes)):
                yield Link(seq, b"", hash_ if isinstance(hash_, bytes) else b"", sound=False)
                continue
            try:
                sound = keys_of(body) == tuple(keys)
            except RowError:
                sound = False
            yield Link(seq, body, hash_, sound)

    def _strays(self) -> Iterator[Finding]:
        query = "SELECT seq FROM event WHERE seq NOT IN (SELECT seq FROM body) LIMIT 10"
        for (seq,) in self._database.execute(query):
            yield Finding(seq, seq, "can be asked for and is not there: put in")
        for (what,) in self._database.execute("PRAGMA integrity_check(5)"):
            if what != "ok":
                yield Finding(0, 0, f"the database itself is broken: {what}")

    def _kept(self, head: Head, begin: Head) -> Iterator[Finding]:
        if head.seq < begin.seq:
            yield Finding(head.seq, head.seq, "was pruned; that head can't be compared any more")
            return
        row = self._database.execute("SELECT hash FROM body WHERE seq = ?", (head.seq,)).fetchone()
        known = begin.hash if head.seq == begin.seq else row[0] if row else None
        if known != head.hash:
            yield Finding(head.seq, head.seq, "is not the one of the head that was kept")

    def select(self, query: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        """The rows of *query*. Raises InputError where the file can't be read."""
        try:
            yield from self._database.execute(query, values)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> InputError:
        return InputError(f"{self._path}: {said(error)}")


def condition(asked: Asked) -> tuple[str, list[object]]:
    """A WHERE clause over `event AS e`, and its values. Only names of columns are written into it."""
    parts: list[str] = []
    values: list[object] = []

    def add(part: str, *given: object) -> None:
        parts.append(part)
        values.extend(given)

    if asked.since_ns is not None:
        add("e.time_ns >= ?", asked.since_ns)
    if asked.until_ns is not None:
        add("e.time_ns < ?", asked.until_ns)
    if asked.events:
        add(f"e.event IN ({_marks(asked.events)})", *asked.events)
    else:
        add(f"+e.event NOT IN ({_marks(QUIET)})", *QUIET)
    if asked.severities:
        add(f"e.severity IN ({_marks(asked.severities)})", *asked.severities)
    for column in ("image", "digest", "runtime", "pod", "namespace", "name"):
        wanted = getattr(asked, column)
        if wanted is not None:
            add(*_matching(column, wanted))
    if asked.id is not None:
        glob = _literal(asked.id) + "*"
        add(
            "e.seq IN (SELECT seq FROM event WHERE container_id GLOB ?"
            " UNION SELECT seq FROM event WHERE id GLOB ?)",
            glob,
            glob,
        )
    return " AND ".join(parts), values


def _matching(column: str, wanted: str) -> tuple[str, str]:
    """One value goes by the column's index; a glob looks through that index first."""
    if not _WILD & set(wanted):
        return f"e.{column} = ?", wanted
    return (
        f"e.seq IN (SELECT seq FROM event WHERE {column} IS NOT NULL AND {column} GLOB ?)",
        wanted,
    )


def _literal(text: str) -> str:
    return "".join(f"[{character}]" if character in _WILD else character for character in text)


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
