"""`ctrwatch events --store`: what is told, kept; and the watch's own beginning and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from ctrwatch.app import Heard, Watch
from ctrwatch.core import rows
from ctrwatch.core.chain import Report
from ctrwatch.core.keepsakes import Keepsakes
from ctrwatch.core.ledger import Reading
from ctrwatch.core.story import Tell
from ctrwatch.outputs.store import Keep, Store
from ctrwatch.sensor.host import Host, wall_offset_ns

__all__ = ("Kept",)


class Kept:
    """Opened at once: raises InputError."""

    def __init__(self, path: Path, keep: Keep, host: Host) -> None:
        self._host = host
        self.store = Store(path, host.name, keep)

    def _begin(self, sensor: str, policies: Sequence[str]) -> None:
        self.store.add(
            rows.watch_start(
                self._host.name,
                time.time_ns(),
                version=metadata.version("ctrwatch"),
                kernel=self._host.kernel,
                boot_id=self._host.boot_id,
                cgroups=self._host.mode,
                sensor=sensor,
                policies=tuple(policies),
            )
        )
        self.store.start()

    def keeping(
        self, listener: Callable[[Heard], None], sensor: str, policies: Sequence[str]
    ) -> Callable[[Heard], None]:
        """
        The same *listener*; what it has heard is kept after.

        Begins to write: once privileges are given up.
        """
        self._begin(sensor, policies)

        keepsakes = Keepsakes()

        def listen(heard: Heard) -> None:
            listener(heard)
            if isinstance(heard, Tell | Report):
                self.store.add(heard.event)
            if isinstance(heard, Tell):
                keepsakes.heard(heard.event)
            elif isinstance(heard, Reading):
                kept = keepsakes.of(heard, wall_offset_ns())
                if kept is not None:
                    self.store.add(kept)

        return listen

    def end(self, watch: Watch) -> str:
        """Its last row, and a word on it."""
        counts = watch.counts
        self.store.add(
            rows.watch_stop(
                self._host.name,
                time.time_ns(),
                seen=counts.seen,
                lost=counts.lost,
                rows_lost=self.store.dropped,
            )
        )
        self.store.close()
        lost = f"; {self.store.dropped} events are not in it" if self.store.dropped else ""
        return f"history: head {self.store.head}{lost}"
