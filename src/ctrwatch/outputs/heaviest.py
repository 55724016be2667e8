"""
The heaviest containers of the history, by an index of what they used.

Totals only grow, so of one container the row that has the most is its newest: the index is
walked from its end until there are enough of them, and only their events are read. A million
rows take milliseconds (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from ctrwatch.core.costs import Around, Cost, Life, began_ns, cost, span
from ctrwatch.core.describe import wall_ns
from ctrwatch.core.rows import COLUMNS, Kept, Keys, RowError, event_of
from ctrwatch.event import ContainerEvent, ContainerUsage, HostUsage
from ctrwatch.outputs.history import Asked, History, condition

__all__ = ("BY", "By", "heaviest")

By = Literal["cpu", "memory", "io"]
BY: Final[dict[By, str]] = {"cpu": "cpu_us", "memory": "memory_bytes", "io": "io_bytes"}
_USES: Final = ("container_remove", "container_usage", "container_oom")
_ROWS: Final = 100  # of one life: an OOM storm has a row a second; the newest are enough
# The birth that a row belongs to, as core/ids.py has it.
_BIRTH: Final = "substr(e.id, 1, instr(e.id || '-', '-') - 1)"


class _Row(NamedTuple):
    seq: int
    keys: Keys


def heaviest(
    history: History, asked: Asked, by: By, most: int, read_until_ns: int | None = None
) -> list[Cost]:
    """
    *most* containers that were born in *asked*'s time and are what else it asks for.

    The one that used most first, of equals the one that was read last; then those of which it is
    not known, the newest first. Rows from *read_until_ns* on are left out. Raises InputError.
    """
    asking = _Asking(history, asked, BY[by], read_until_ns)
    found: list[Cost] = []
    for births in (asking.known(), asking.unknown()):
        for birth in births:
            if len(found) == most:
                return found
            life = asking.life(birth)
            if life is not None:
                found.append(asking.cost(life))
    return found


class _Asking:
    def __init__(
        self, history: History, asked: Asked, column: str, read_until_ns: int | None
    ) -> None:
        self._history, self._asked, self._column = history, asked, column
        self._until_ns = read_until_ns
        self._hosts: dict[tuple[str, int], HostUsage | None] = {}

    def known(self) -> Iterator[str]:
        """Births by what they used, the heaviest first. Their time is not looked at yet."""
        wanted, values = self._filters()
        if self._until_ns is not None:
            wanted += " AND +e.time_ns < ?"
            values.append(self._until_ns)
        if self._asked.since_ns is not None:  # who was born then was read later
            wanted += " AND +e.time_ns >= ?"
            values.append(self._asked.since_ns)
        query = (
            f"SELECT {_BIRTH} FROM event AS e WHERE e.{self._column} IS NOT NULL AND {wanted}"
            f" ORDER BY e.{self._column} DESC, e.time_ns DESC, e.seq DESC"
        )
        return self._births(query, values)

    def unknown(self) -> Iterator[str]:
        wanted, values = self._filters()
        since_ns, until_ns = self._asked.since_ns, self._asked.until_ns
        until = "" if self._until_ns is None else f" AND l.time_ns < {self._until_ns:d}"
        query = (
            f"SELECT {_BIRTH} FROM event AS e WHERE e.event IN ('container_create',"
            f" 'existing_container') AND {wanted}"
            + ("" if since_ns is None else f" AND e.time_ns >= {since_ns:d}")
            # Who was there before was found later than he was born.
            + (
                f" AND (e.time_ns < {until_ns:d} OR e.event = 'existing_container')"
                if until_ns is not None
                else ""
            )
            + " AND NOT EXISTS (SELECT 1 FROM event AS l WHERE l.id > e.id AND l.id < e.id || '.'"
            f" AND l.{self._column} IS NOT NULL{until}) ORDER BY e.time_ns DESC, e.seq DESC"
        )
        return self._births(query, values)

    def _births(self, query: str, values: Sequence[object]) -> Iterator[str]:
        """Each once."""
        seen: set[str] = set()
        for (birth,) in self._history.select(query, values):
            if birth not in seen:
                seen.add(birth)
                yield birth

    def _filters(self) -> tuple[str, list[object]]:
        """Rows have names of their own; a digest is only in those of births and removals."""
        asked = self._asked._replace(since_ns=None, until_ns=None, digest=None, limit=None)
        wanted, values = condition(asked._replace(events=(), severities=()))
        if self._asked.digest is not None:
            of_digest, more = condition(Asked(digest=self._asked.digest))
            wanted += f" AND {_BIRTH} IN (SELECT {_BIRTH} FROM event AS e WHERE {of_digest})"
            values = [*values, *more]
        return wanted, values

    # --- one life ---------------------------------------------------------------------------

    def life(self, birth: str) -> Life | None:
        """None: it was not born in the asked time."""
        rows = self._rows(birth)
        last = self._last(rows)
        born_ns = self._born_ns(rows, last)
        if not self._is_asked(born_ns):
            return None
        removes = (row.keys.time_ns for row in rows if row.keys.event == "container_remove")
        names = {
            name: next((value for row in rows if (value := getattr(row.keys, name))), "")
            for name in ("runtime", "container_id", "name", "image", "digest", "pod", "namespace")
        }
        return Life(born_ns=born_ns, ended_ns=next(removes, None), **names, last=last)

    def _born_ns(
        self, rows: list[_Row], last: ContainerEvent | ContainerUsage | None
    ) -> int | None:
        """An existing_container has the time at which it was found, and the birth may be pruned."""
        births = [row.keys.time_ns for row in rows if row.keys.event == "container_create"]
        if births:
            return min(births)
        if last is not None and (born_ns := began_ns(last)) is not None:
            return born_ns
        found = (self._event(row) for row in rows if row.keys.event == "existing_container")
        born_ns = next((event.ctime for event in found if isinstance(event, ContainerEvent)), None)
        return born_ns if born_ns is not None and 0 <= born_ns < 1 << 63 else None

    def _rows(self, birth: str) -> list[_Row]:
        """Newest first; the birth itself is the last one."""
        columns = ", ".join(f"e.{column}" for column in COLUMNS)
        until = "" if self._until_ns is None else f" AND e.time_ns < {self._until_ns:d}"
        query = (
            f"SELECT e.seq, {columns} FROM event AS e WHERE e.id {{}}{until}"
            f" ORDER BY e.time_ns DESC, e.seq DESC LIMIT {_ROWS}"
        )
        found = []
        for where, values in (("> ? AND e.id < ?", (f"{birth}-", f"{birth}.")), ("= ?", (birth,))):
            rows = self._history.select(query.format(where), values)
            found += [_Row(seq, Keys._make(keys)) for seq, *keys in rows]
        return [row for row in found if isinstance(row.keys.time_ns, int)]  # somebody may change it

    def _last(self, rows: list[_Row]) -> ContainerEvent | ContainerUsage | None:
        """
        The bill if there is one that says something, else the newest of its use.

        A watch that began late may have heard the end and read nothing: an earlier one had.
        """
        uses = [row for row in rows if row.keys.event in _USES]
        uses.sort(
            key=lambda row: (
                all(getattr(row.keys, column) is None for column in BY.values()),
                row.keys.event != "container_remove",
            )
        )
        for row in uses:
            event = self._event(row)
            if isinstance(event, ContainerEvent | ContainerUsage) and event.usage is not None:
                return event
        return None

    def _is_asked(self, born_ns: int | None) -> bool:
        since_ns, until_ns = self._asked.since_ns, self._asked.until_ns
        if born_ns is None:
            return since_ns is None and until_ns is None
        return (since_ns or born_ns) <= born_ns and (until_ns is None or born_ns < until_ns)

    def _event(self, row: _Row) -> Kept | None:
        query = "SELECT body FROM body WHERE seq = ?"
        for (body,) in self._history.select(query, (row.seq,)):
            return _read(row.keys.event, body)
        return None

    # --- the host around it -----------------------------------------------------------------

    def cost(self, life: Life) -> Cost:
        whole = span(life)
        if whole is None:
            ends = [ns for ns in (life.born_ns, life.ended_ns) if ns is not None]
            whole = (ends[0], ends[-1]) if ends else None
        if whole is None:
            return cost(life, Around(), Around())
        return cost(life, *(Around(self._host("<=", ns), self._host(">", ns)) for ns in whole))

    def _host(self, which: Literal["<=", ">"], at_ns: int) -> HostUsage | None:
        if (which, at_ns) not in self._hosts:
            order = "DESC" if which == "<=" else "ASC"
            query = (
                "SELECT b.body FROM event AS e JOIN body AS b ON b.seq = e.seq"
                f" WHERE e.event = 'host_usage' AND e.time_ns {which} ?"
                f" ORDER BY e.time_ns {order} LIMIT 1"
            )
            found = None
            for (body,) in self._history.select(query, (at_ns,)):
                event = _read("host_usage", body)
                found = event if isinstance(event, HostUsage) else None
            self._hosts[which, at_ns] = found
        return self._hosts[which, at_ns]


def _read(kind: str, body: bytes) -> Kept | None:
    """None: no ctrwatch of this version wrote it."""
    try:
        event = event_of(kind, body)
        wall_ns(event.time)
    except (RowError, ValueError, OverflowError, TypeError):
        return None
    return event
