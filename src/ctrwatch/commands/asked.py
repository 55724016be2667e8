"""`--policy`, `--where`, `--only-violations`, `--fail-on`: the options. Light: `--help` loads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import click

if TYPE_CHECKING:
    from ctrwatch.commands.verdicts import Verdicts
    from ctrwatch.event import Severity

__all__ = ("FAILED", "SEVERITIES", "Asked", "options", "verdicts")

FAILED: Final = 4  # exit code: a violation of --fail-on's severity, or a worse one
SEVERITIES: Final = ("info", "low", "medium", "high", "critical")  # event.Severity, least first


class Asked(NamedTuple):
    """The options, as they were given."""

    policies: Sequence[str] = ()
    where: str | None = None
    only_violations: bool = False
    fail_on: Severity | None = None


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that shows events."""
    given = (
        click.option(
            "--policy",
            "policies",
            multiple=True,
            metavar="FILE|DIR|NAME",
            help="Judge by these policies; `ctrwatch policy list` names those that ship.",
        ),
        click.option(
            "--only-violations", is_flag=True, help="Show nothing but what a policy says."
        ),
        click.option(
            "--where",
            metavar="EXPR",
            help="Show only the events for which this CEL expression holds.",
        ),
        click.option(
            "--fail-on",
            type=click.Choice(SEVERITIES),
            help=f"Exit with {FAILED} if a violation was as severe as this.",
        ),
    )
    for option in reversed(given):
        command = option(command)
    return command


def verdicts(asked: Asked, wait_s: float = 0) -> Verdicts | None:
    """None where nothing is asked for: then CEL is not loaded. Raises InputError."""
    if asked == Asked():
        return None
    from ctrwatch.commands.verdicts import Verdicts

    return Verdicts(asked, wait_s)
