"""Options of the commands that ask a history. Light: `--help` loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

__all__ = ("AS_JSON", "OF_STORE", "SINCE")

_STORE: Final = "/var/lib/ctrwatch/history.db"  # the state directory of the unit

AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
OF_STORE = click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(_STORE),
    show_default=True,
    metavar="FILE",
    help="What `events --store` wrote.",
)
SINCE = click.option(
    "--since", metavar="TIME", help="RFC 3339, or how long ago: 7d, 2h. [default: all of it]"
)
