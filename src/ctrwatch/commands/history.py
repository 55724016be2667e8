"""`ctrwatch history`: what was told, asked for again, and the proof that it is whole."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ctrwatch.core import cells, render
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.hashchain import Head
from ctrwatch.core.rows import (
    HistoryPruned,
    Kept,
    Keys,
    RowError,
    WatchAlive,
    WatchStart,
    WatchStop,
    body_of,
)
from ctrwatch.core.said import said_of_bill, said_of_figures, said_of_host
from ctrwatch.core.text import clean, escaped
from ctrwatch.event import ContainerEvent, ContainerUsage, HostUsage
from ctrwatch.outputs.history import Asked, History, Row

__all__ = ("TABLE_ROWS", "run", "verify")

TABLE_ROWS: Final = 1000  # as many as anybody reads; all of them are one option away
_CSV_HEAD: Final = (
    "time", "event", "id", "runtime", "container_id", "container_image", "container_image_digest",
    "container_name", "pod_name", "pod_namespace", "severity", "message",
)  # fmt: skip
# Nothing is said of these: so their bodies need not be read.
_LIVES: Final = frozenset(
    {"container_create", "container_start", "container_update", "existing_container"}
)
_CSV_KEYS: Final = len(_CSV_HEAD) - 1  # of a row's, those that are columns here


def run(path: Path, asked: Asked, form: str, where: str | None = None) -> int:
    """*form*: table, json or csv; *where*: of which containers. The exit code."""
    cut = asked.limit is None and form == "table"
    if cut:
        asked = asked._replace(limit=TABLE_ROWS)
    with History(path) as history, contextlib.suppress(BrokenPipeError):
        number = 0
        for number, line in enumerate(_FORMS[form](_rows(history, asked, where)), 1):  # noqa: B007
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if cut and number == TABLE_ROWS:
            sys.stderr.write(
                f"ctrwatch: the newest {TABLE_ROWS}; --limit, --since or a filter shows others\n"
            )
    return 0


def _rows(history: History, asked: Asked, where: str | None) -> Iterable[Row]:
    if where is None:
        return history.rows(asked)
    from ctrwatch.commands.whose import Whose  # loads CEL

    found = Whose(history, where).rows(asked._replace(limit=None))
    return found if asked.limit is None else deque(found, asked.limit)


def verify(path: Path, kept: Sequence[Head]) -> int:
    """1: something was found."""
    with History(path) as history:
        proof = history.verify(kept)
    for finding in proof.findings:
        sys.stdout.write(f"{clean(str(finding), 300)}\n")
    if proof.more:
        sys.stdout.write(f"… and {proof.more} more\n")
    since = f", since row {proof.begin.seq + 1}; older ones were pruned" if proof.begin.seq else ""
    state = "NOT whole" if proof.findings else "whole"
    sys.stdout.write(f"{proof.rows} rows{since}: the chain is {state}\nhead {proof.end}\n")
    return 1 if proof.findings else 0


# --- the forms --------------------------------------------------------------------------------


def _json(rows: Iterable[Row]) -> Iterator[bytes]:
    shown = escaped if sys.stdout.isatty() else bytes
    for row in rows:
        try:
            line = _line(row.event())
        except RowError:
            line = row.body + b"\n"  # of another version of ctrwatch: as it was
        yield shown(line)


def _line(event: Kept) -> bytes:
    """As it left."""
    match event:
        case ContainerEvent():
            return render.json_line(event)
        case WatchStart() | WatchStop() | WatchAlive() | HistoryPruned():
            return body_of(event) + b"\n"
        case _:
            return render.host_json_line(event)


def _csv(rows: Iterable[Row]) -> Iterator[bytes]:
    yield cells.row(_CSV_HEAD).encode()
    for row in rows:
        keys = row.keys[1:_CSV_KEYS]
        yield cells.row((rfc3339(row.keys.time_ns), *keys, _message(row))).encode()


def _table(rows: Iterable[Row]) -> Iterator[bytes]:
    for row in rows:
        keys = row.keys
        if keys.container_id is None or keys.severity is not None:
            yield f"{_when(keys)}  {_word(keys):9}  ! {_message(row)}\n".encode()
            continue
        pod = "/".join(filter(None, (keys.namespace, keys.pod)))
        columns = (
            _when(keys),
            f"{_word(keys):9}",
            f"{clean(keys.runtime or '-', 10):10}",
            f"{clean(keys.name or '-', 24):24}",
            f"{clean(keys.image or '-', 40):40}",
            f"{clean(pod or '-', 30):20}",
            render.short_id(keys.container_id),
        )
        said = _message(row)
        mark = f"  ! {said}" if said else ""
        yield ("  ".join(columns) + mark + "\n").encode()


def _when(keys: Keys) -> str:
    return rfc3339(keys.time_ns)[:19] + "Z"


def _word(keys: Keys) -> str:
    name = keys.event.removeprefix("container_").removesuffix("_container")
    return clean(name.removeprefix("history_").removeprefix("watch_"), 11)


def _message(row: Row) -> str:
    """A sentence, of what is not a container's life, and of what it used."""
    if row.keys.event in _LIVES:
        return ""
    try:
        return _said(row.event())
    except RowError as error:
        return clean(str(error), 120)


def _said(event: Kept) -> str:
    match event:
        case ContainerEvent() | ContainerUsage() | HostUsage():
            return _said_of_use(event)
        case WatchAlive():
            return ""
        case WatchStart():
            by = f", judged by {', '.join(event.policies)}" if event.policies else ""
            return clean(f"ctrwatch {event.version} watches by {event.sensor}{by}", 300)
        case WatchStop():
            return (
                f"{event.seen} seen, {event.lost} raw events lost,"
                f" {event.rows_lost} events not in the history"
            )
        case HistoryPruned():
            return f"rows {event.first}–{event.last} were removed for their {event.reason}"
        case _:
            return render.host_text_line(event).partition("! ")[2].rstrip("\n")


def _said_of_use(event: ContainerEvent | ContainerUsage | HostUsage) -> str:
    if isinstance(event, HostUsage):
        return said_of_host(event)
    if isinstance(event, ContainerUsage):
        return said_of_figures(event).lstrip(" ,:")
    return said_of_bill(event.usage) if event.usage is not None else ""


_FORMS: Final[dict[str, Callable[[Iterable[Row]], Iterator[bytes]]]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
}
