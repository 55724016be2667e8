"""`ctrwatch history --where`: of the rows those of containers for which an expression holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ctrwatch.commands.verdicts import Where
from ctrwatch.core.ids import birth_of
from ctrwatch.core.judge import BIRTHS
from ctrwatch.core.rows import RowError
from ctrwatch.event import ContainerEvent
from ctrwatch.outputs.history import Asked, History, Row

__all__ = ("Whose",)

_KNOWN_BY = (*BIRTHS, "container_update")


class Whose:
    """
    An event of a container's life is judged as it stands; a verdict or a finding by its container's.

    The container's: its newest birth by then, and what became known of that one.
    """

    def __init__(self, history: History, text: str) -> None:
        """Raises InputError."""
        self._history, self._where = history, Where(text)
        self._last: tuple[tuple[str, int], bool] | None = None
        self._unread = 0

    def rows(self, asked: Asked) -> Iterator[Row]:
        for row in self._history.rows(asked):
            if self._holds(row):
                yield row
        if self._unread:
            sys.stderr.write(
                f"ctrwatch: {self._unread} rows are of another version of ctrwatch:"
                " whether --where holds for them can't be told\n"
            )

    def _holds(self, row: Row) -> bool:
        if row.keys.container_id is None:
            return False
        try:
            event = row.event()
        except RowError:
            self._unread += 1
            return False
        if isinstance(event, ContainerEvent):
            return self._where.holds(event)
        key = row.keys.container_id, row.keys.time_ns
        if self._last is None or self._last[0] != key:  # verdicts on one birth come together
            self._last = key, any(map(self._where.holds, self._known(*key)))
        return self._last[1]

    def _known(self, container_id: str, until_ns: int) -> list[ContainerEvent]:
        """Of the container's newest birth until then: itself, told again, and its updates."""
        known: list[ContainerEvent] = []
        for row in self._history.rows(Asked(id=container_id, events=_KNOWN_BY)):
            try:
                event = row.event()
            except RowError:
                continue
            if not isinstance(event, ContainerEvent) or event.container_id != container_id:
                continue  # one whose id begins alike
            if known and birth_of(event.id) != birth_of(known[0].id):
                if row.keys.time_ns > until_ns:
                    break
                known = []
            known.append(event)
        return known
