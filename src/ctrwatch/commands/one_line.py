"""What is said to the user besides the result: one line, whatever went wrong and whoever's text is in it."""

from __future__ import annotations

import logging
from typing import Any, Final

import click

from ctrwatch.core.text import clean
from ctrwatch.errors import CtrwatchError

__all__ = ("Commands", "OneLine")

_INTERRUPTED: Final = 130  # as a shell says of Ctrl-C: 128 and SIGINT's number
_SAID: Final = 4096  # characters of one word to the user: a path can have as many


class OneLine(logging.Formatter):
    """A word in the log is one line of ours, whatever strangers' text is in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return clean(super().formatMessage(record), _SAID)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """A stack trace: its lines are set in, so that none of them looks like ours."""
        lines = super().formatException(ei).split("\n")
        return "\n".join("  " + clean(line, _SAID) for line in lines)


class Commands(click.Group):
    """Shows a user's mistake as one line, never as a stack trace."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CtrwatchError as error:
            click.echo(f"ctrwatch: {clean(str(error), _SAID)}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:  # of a command that has an end of its own, which it did not reach
            click.echo(err=True)
            ctx.exit(_INTERRUPTED)
