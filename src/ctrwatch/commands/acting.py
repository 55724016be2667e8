"""What `ctrwatch events` does about a violation: enforcement, a webhook, a command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ctrwatch.app import Heard, Watch
from ctrwatch.core.chain import Report
from ctrwatch.core.story import Tell
from ctrwatch.core.tally import Acted
from ctrwatch.event import Enforcement
from ctrwatch.ports import Sensor
from ctrwatch.sensor.host import Host

if TYPE_CHECKING:
    from ctrwatch.actions.command import Command
    from ctrwatch.actions.enforce import Enforcer
    from ctrwatch.commands.actions import Actions
    from ctrwatch.core.judge import Breach
    from ctrwatch.outputs.backlog import Backlog
    from ctrwatch.outputs.webhook import Webhook

__all__ = ("Acting",)


class Acting:
    """
    Made before privileges are given up, for what it opens; `begin` after, for its threads.

    `act` and `listening`'s listener are called in the event loop. Modules are loaded only for
    what is asked.
    """

    def __init__(self, asked: Actions) -> None:
        """Raises InputError where the webhook's queue can't be used."""
        self._asked, self._secret = asked, asked.secret
        self._backlog: Backlog | None = None
        if asked.webhook is not None and asked.queue is not None:
            from ctrwatch.outputs.backlog import Backlog

            self._backlog = Backlog(asked.queue)
        self._enforcer: Enforcer | None = None
        self._command: Command | None = None
        self._webhook: Webhook | None = None

    def capabilities(self, host: Host) -> frozenset[str]:
        """That are needed for it: cgroup v1 has no file that kills, and asks for a signal."""
        signals = self._asked.enforce == "on" and host.mode != "v2"
        return frozenset({"CAP_KILL"}) if signals else frozenset()

    def begin(
        self, host: Host, watch: Watch, sensor: Sensor, tell: Callable[[Heard], None]
    ) -> None:
        """*tell* is given each `Enforcement`."""
        asked = self._asked
        if asked.enforce is not None:
            from ctrwatch.actions.enforce import Enforcer

            def told(event: Enforcement) -> None:
                tell(Report(event))

            dry_run, blind = asked.enforce == "dry-run", bool(sensor.without)
            self._enforcer = Enforcer(host, watch.places, told, dry_run=dry_run, blind=blind)
        if asked.on_violation is not None:
            from ctrwatch.actions.command import Command, words

            self._command = Command(words(asked.on_violation))
        if asked.webhook is not None and self._backlog is not None:
            from ctrwatch.outputs.webhook import Webhook, receiver

            to, format_ = receiver(asked.webhook), asked.webhook_format
            self._webhook = Webhook(to, self._backlog, secret=self._secret, format_=format_)

    def listening(self, listener: Callable[[Heard], None]) -> Callable[[Heard], None]:
        """The same *listener*, and the enforcer, which has to know what has started."""
        if self._asked.enforce is None:
            return listener

        def listen(heard: Heard) -> None:
            listener(heard)
            if isinstance(heard, Tell) and self._enforcer is not None:
                self._enforcer.heard(heard.event)

        return listen

    def act(self, breach: Breach) -> None:
        """The strike first: a container's first instruction is milliseconds away."""
        if self._enforcer is not None:
            self._enforcer.judged(breach.violation, breach.event, breach.moment)
        if self._webhook is not None:
            self._webhook.push(breach.violation, breach.event)
        if self._command is not None:
            self._command.push(breach.violation, breach.event)

    def acted(self) -> Acted:
        """For the metrics."""
        return Acted(
            enforced=self._enforcer.done if self._enforcer is not None else {},
            sent=self._webhook.counted if self._webhook is not None else {},
            unsent=self._webhook.waiting if self._webhook is not None else 0,
            ran=self._command.counted if self._command is not None else {},
        )

    async def close(self) -> None:
        """While lines can still be written: what is being stopped is told."""
        if self._enforcer is not None:
            await self._enforcer.close()
        ends = [each.close for each in (self._webhook, self._command) if each is not None]
        await asyncio.gather(*(asyncio.to_thread(end) for end in ends))
