"""`ctrwatch events --metrics`: what is counted, and the endpoint that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from prometheus_client.registry import Collector

from ctrwatch.app import Heard, Watch
from ctrwatch.core.chain import Report
from ctrwatch.core.ledger import Reading
from ctrwatch.core.story import Tell
from ctrwatch.core.tally import Acted, Told
from ctrwatch.core.totals import Latest, Totals
from ctrwatch.outputs.endpoint import Endpoint
from ctrwatch.outputs.lines import LineOutput
from ctrwatch.outputs.listening import Listening
from ctrwatch.outputs.metrics import Exposition
from ctrwatch.outputs.series import ByImage, InUse, OfContainers

__all__ = ("Exposed",)


class Exposed:
    """
    `with Exposed("127.0.0.1:9470") as exposed: …` listens there, and answers while `serve` runs.

    *usage*: what containers use is read; *containers*: of so many each by itself. Raises
    InputError where it can't listen.
    """

    def __init__(self, given: str, *, usage: bool, containers: int) -> None:
        self._listening = Listening(given)
        self._told, self._totals = Told(), Totals(usage=usage)
        self._latest = Latest(containers) if containers else None
        self._shown: list[Collector] = [ByImage(self._totals)]
        if usage:
            self._shown.append(InUse(self._totals))
        if self._latest is not None:
            self._shown.append(OfContainers(self._latest, time.monotonic_ns))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listening.close()

    @property
    def where(self) -> str:
        """The address that it really has, as a browser or curl takes it."""
        where = self._listening.where
        return where if where.startswith("unix:") else f"http://{where}/metrics"

    def counting(self, listener: Callable[[Heard], None]) -> Callable[[Heard], None]:
        """The same *listener*; what it has heard is counted after."""

        def listen(heard: Heard) -> None:
            listener(heard)
            if isinstance(heard, Tell):
                self._told.add(heard.event, time.time_ns())
                self._totals.told(heard.event)
                if self._latest is not None and heard.event.event == "container_remove":
                    self._latest.ended(heard.event, time.monotonic_ns())
            elif isinstance(heard, Report):
                self._told.events[heard.event.event] += 1
            elif isinstance(heard, Reading):
                self._totals.read(heard)
                if self._latest is not None:
                    self._latest.read(heard)

        return listen

    async def serve(
        self, watch: Watch, output: LineOutput, sensor: str, acted: Callable[[], Acted]
    ) -> None:
        """Answer until cancelled."""
        shown = Exposition(
            lambda: watch.vitals, self._told, output, sensor, acted, more=self._shown
        )
        routes = {"/metrics": shown.metrics, "/healthz": shown.health}
        await Endpoint(self._listening.socket, routes).serve()
