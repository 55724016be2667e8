"""`--enforce`, `--webhook`, `--on-violation`: the options, and what they ask for. Light: `--help` loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import click

from ctrwatch.errors import InputError

__all__ = ("Actions", "actions", "needs_openssl", "options")

_SECRET_BYTES: Final = 4096  # a key of 32 bytes is as good as any


class Actions(NamedTuple):
    """What is asked for; *state* is `--state`."""

    enforce: Literal["on", "dry-run"] | None = None
    webhook: str | None = None
    webhook_secret: Path | None = None
    webhook_queue: Path | None = None
    webhook_format: Literal["json", "slack"] = "json"
    on_violation: str | None = None
    state: Path | None = None

    @property
    def queue(self) -> Path | None:
        if self.webhook_queue is None and self.state is not None:
            return self.state / "webhook.db"
        return self.webhook_queue

    @property
    def secret(self) -> bytes | None:
        """The file without white space around it: an editor ends a line. Raises InputError."""
        if self.webhook_secret is None:
            return None
        try:
            with self.webhook_secret.open("rb") as file:
                secret = file.read(_SECRET_BYTES + 1).strip()
        except OSError as error:
            raise InputError(
                f"--webhook-secret-file {self.webhook_secret}: {error.strerror}"
            ) from None
        if not secret or len(secret) > _SECRET_BYTES:
            raise InputError(
                f"--webhook-secret-file {self.webhook_secret}: give 1 to {_SECRET_BYTES} bytes"
            )
        return secret

    def check(self) -> None:
        """Before a sensor is attached: raises InputError for what can't be done."""
        if self.on_violation is not None:
            from ctrwatch.actions.command import words

            words(self.on_violation)
        if self.webhook is None:
            if self.webhook_secret or self.webhook_queue:
                raise InputError("--webhook-secret-file, --webhook-queue: give --webhook URL, too")
            return
        from ctrwatch.outputs.webhook import receiver

        receiver(self.webhook)
        _ = self.secret
        if self.queue is None:
            raise InputError(
                "--webhook: give --state DIR or --webhook-queue FILE, where violations wait"
                " that can't be sent yet"
            )


def actions(asked: dict[str, Any], state: Path | None) -> Actions:
    """Taken out of what the command line *asked*. Raises InputError."""
    given = {name: asked.pop(name) for name in Actions._fields if name in asked}
    made = Actions(**given, state=state)
    made.check()
    if (made.enforce or made.webhook or made.on_violation) and not asked["policies"]:
        raise InputError(
            "--enforce, --webhook, --on-violation: without --policy there are no violations: give one"
        )
    return made


def needs_openssl(asked: dict[str, Any]) -> bool:
    return str(asked["webhook"]).lower().startswith("https:")


def options(command: Callable[..., None]) -> Callable[..., None]:
    """What is done about a violation, by the names of `Actions`."""
    given = (
        click.option(
            "--enforce",
            is_flag=False,
            flag_value="on",
            type=click.Choice(("on", "dry-run")),
            help="Freeze or kill what a rule says; dry-run only says what it would do.",
        ),
        click.option(
            "--on-violation",
            metavar='"PROGRAM ARG…"',
            help="Run this for each violation: JSON on its standard input, 10 s, no shell.",
        ),
        click.option(
            "--webhook",
            metavar="URL",
            envvar="CTRWATCH_WEBHOOK",
            show_envvar=True,
            help="POST each violation there, until it is taken.",
        ),
        click.option(
            "--webhook-format",
            type=click.Choice(("json", "slack")),
            default="json",
            show_default=True,
            help="slack: text for a chat.",
        ),
        click.option(
            "--webhook-secret-file",
            "webhook_secret",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Sign what is sent with the key in this file (HMAC-SHA256).",
        ),
        click.option(
            "--webhook-queue",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="What waits to be sent.  [default: webhook.db in --state]",
        ),
    )
    for option in reversed(given):
        command = option(command)
    return command
