"""What `ctrwatch events` does about a violation: enforcement, a webhook, a command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ctrwatch.actions.command import Command, words
from ctrwatch.actions.enforce import Enforcer
from ctrwatch.app import Heard, Watch
from ctrwatch.core.alerting import Format
from ctrwatch.core.chain import Report
from ctrwatch.core.story import Tell
from ctrwatch.core.tally import Acted
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent, Enforcement, Violation
from ctrwatch.ports import Sensor
from ctrwatch.sensor.host import Host

if TYPE_CHECKING:
    from ctrwatch.outputs.webhook import Webhook

__all__ = ("Acting", "Actions")

_SECRET_BYTES: Final = 4096  # a key of 32 bytes is as good as any


class Actions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; *state* is `--state`. Raises InputError for what can't be."""

    state: Path | None = None
    enforce: Literal["on", "dry-run"] | None = None
    webhook: str | None = None
    webhook_secret: Path | None = None
    webhook_queue: Path | None = None
    webhook_format: Format = "json"
    on_violation: str | None = None

    def __post_init__(self) -> None:
        """Before a sensor is attached: a mistake is told at once."""
        if self.on_violation is not None:
            words(self.on_violation)
        if self.webhook is None:
            if self.webhook_secret or self.webhook_queue:
                raise InputError("--webhook-secret-file, --webhook-queue: give --webhook URL, too")
            return
        from ctrwatch.outputs.webhook import receiver

        receiver(self.webhook)
        _secret(self.webhook_secret)
        if self.queue is None:
            raise InputError(
                "--webhook: give --state DIR or --webhook-queue FILE, where violations wait"
                " that can't be sent yet"
            )

    @property
    def queue(self) -> Path | None:
        if self.webhook_queue is None and self.state is not None:
            return self.state / "webhook.db"
        return self.webhook_queue


class Acting:
    """
    Made before privileges are given up, for what it opens; `begin` after, for its threads.

    `judged` and `listening`'s listener are called in the event loop.
    """

    def __init__(self, asked: Actions) -> None:
        """Raises InputError where the webhook's queue can't be used."""
        self._asked = asked
        self._command = words(asked.on_violation) if asked.on_violation is not None else None
        self._secret = _secret(asked.webhook_secret)
        self._backlog = None
        if asked.webhook is not None and asked.queue is not None:
            from ctrwatch.outputs.backlog import Backlog
            from ctrwatch.outputs.webhook import receiver

            self._to = receiver(asked.webhook)
            self._backlog = Backlog(asked.queue)
        self.enforcer: Enforcer | None = None
        self.command: Command | None = None
        self.webhook: Webhook | None = None

    def capabilities(self, host: Host) -> frozenset[str]:
        """That are needed for it: cgroup v1 has no file that kills, and asks for a signal."""
        signals = self._asked.enforce == "on" and host.mode != "v2"
        return frozenset({"CAP_KILL"}) if signals else frozenset()

    def begin(
        self, host: Host, watch: Watch, sensor: Sensor, tell: Callable[[Heard], None]
    ) -> None:
        def told(event: Enforcement) -> None:
            tell(Report(event))

        if self._asked.enforce is not None:
            dry_run, blind = self._asked.enforce == "dry-run", bool(sensor.without)
            self.enforcer = Enforcer(host, watch.places, told, dry_run=dry_run, blind=blind)
        if self._command is not None:
            self.command = Command(self._command)
        if self._backlog is not None:
            from ctrwatch.outputs.webhook import Webhook

            self.webhook = Webhook(
                self._to, self._backlog, secret=self._secret, format_=self._asked.webhook_format
            )

    def listening(self, listener: Callable[[Heard], None]) -> Callable[[Heard], None]:
        """The same *listener*, and the enforcer, which has to know what has started."""

        def listen(heard: Heard) -> None:
            listener(heard)
            if isinstance(heard, Tell) and self.enforcer is not None:
                self.enforcer.heard(heard.event)

        return listen

    def judged(self, violation: Violation, event: ContainerEvent) -> None:
        if self.enforcer is not None:
            self.enforcer.judged(violation, event)
        if self.webhook is not None:
            self.webhook.push(violation, event)
        if self.command is not None:
            self.command.push(violation, event)

    def acted(self) -> Acted:
        """For the metrics."""
        return Acted(
            enforced=self.enforcer.done if self.enforcer is not None else {},
            sent=self.webhook.counted if self.webhook is not None else {},
            unsent=self.webhook.waiting if self.webhook is not None else 0,
            ran=self.command.counted if self.command is not None else {},
        )

    async def close(self) -> None:
        """While lines can still be written: what is being stopped is told."""
        if self.enforcer is not None:
            await self.enforcer.close()
        ends = [each.close for each in (self.webhook, self.command) if each is not None]
        await asyncio.gather(*(asyncio.to_thread(end) for end in ends))


def _secret(path: Path | None) -> bytes | None:
    """The file without white space around it: an editor ends a line."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            secret = file.read(_SECRET_BYTES + 1).strip()
    except OSError as error:
        raise InputError(f"--webhook-secret-file {path}: {error.strerror}") from None
    if not secret or len(secret) > _SECRET_BYTES:
        raise InputError(f"--webhook-secret-file {path}: give 1 to {_SECRET_BYTES} bytes")
    return secret
