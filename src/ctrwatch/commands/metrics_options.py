"""`--metrics` and `--metrics-containers`: what is asked for, and the endpoint that it makes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from ctrwatch.errors import InputError

if TYPE_CHECKING:
    from ctrwatch.commands.configured import Configured
    from ctrwatch.commands.exposed import Exposed

__all__ = ("exposing", "options")

_OPTIONS: Final = (
    click.option(
        "--metrics",
        metavar="ADDRESS",
        help="Serve /metrics and /healthz at 127.0.0.1:PORT, or at unix:/PATH.",
    ),
    click.option(
        "--metrics-containers",
        type=int,
        metavar="N",
        help="With --usage: also what each of the N newest containers uses.  [default: 0]",
    ),
)


def options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def exposing(configured: Configured) -> contextlib.AbstractContextManager[Exposed | None]:
    """None: there are no metrics. Raises InputError where they can't be had as is asked for."""
    from ctrwatch.commands.configured import containers

    try:
        number = containers(configured.value)
    except InputError as error:
        raise configured.blamed("metrics-containers", error) from None
    if configured.value.metrics is None:
        return contextlib.nullcontext()
    from ctrwatch.commands.exposed import Exposed

    usage = configured.value.usage is True
    try:
        return Exposed(configured.value.metrics, usage=usage, containers=number)
    except InputError as error:
        raise configured.blamed("metrics", error) from None
