"""The options of `ctrwatch top`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ctrwatch.commands.lean import leave_out_openssl
from ctrwatch.commands.watch_options import sockets as by_kind, watch_options

if TYPE_CHECKING:
    from ctrwatch.core.configuration import SensorName

__all__ = ("SORTS", "top")

# The keys of core/columns.py, which is not loaded for `--help`.
SORTS: Final = (
    *("age", "runtime", "name", "image", "pod", "cpu", "memory", "limit", "io", "read", "write"),
    *("tasks", "pressure", "minute", "id"),
)

# Between two looks at an old one that is not on the screen, for it may belong there. Of many it is
# longer, so that they take no more than 0.75 % of a core (core/attention.py).
_SETTLED_S: Final = 5.0


@click.command(
    short_help="What containers use, live.",
    epilog="Example: sudo ctrwatch top --once --sort memory --limit 5\n\n"
    "For a script: sudo ctrwatch top --json | jq -c '.containers[0] | [.container_name, .rates.cpu_cores]'",
)
@click.option("--once", is_flag=True, help="Look twice, a second apart, print a table and end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object each time; docs/top.md.")
@click.option(
    "--sort", type=click.Choice(SORTS), default="age", show_default=True, help="By which column."
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option(
    "--filter",
    "text",
    default="",
    metavar="WORDS",
    help="Only those that have each word in name, image, pod, runtime or id.",
)
@click.option(
    "--where", metavar="EXPR", help="Only containers for which this CEL expression holds."
)
@click.option("--limit", type=click.IntRange(1), help="So many rows at most.")
@click.option(
    "--every",
    type=click.FloatRange(0.5, 60),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the containers that are shown are looked at.",
)
@click.option(
    "--mouse/--no-mouse", default=True, help="Whether clicks are heard.  [default: mouse]"
)
@click.option(
    "--sensor",
    type=click.Choice(("auto", "ebpf", "fanotify")),
    help="How to hear of cgroups.  [default: auto]",
)
@watch_options
def top(
    *,
    sensor: SensorName | None,
    every: float,
    config: Path | None,
    wait: float | None,
    sockets: Sequence[str],
    **asked: Any,
) -> None:
    """What containers use, live: the newest first, or by any column.

    / filters, s sorts, enter shows all that is known of a container, ? helps, q ends.
    """
    leave_out_openssl()
    from ctrwatch.commands.configured import Configured, settings
    from ctrwatch.commands.top import Asked, run
    from ctrwatch.config import Settings
    from ctrwatch.core.configuration import Configuration

    if os.geteuid() != 0 and asked["once"]:
        click.echo("ctrwatch: not root: what only root may read is missing here", err=True)
    command = Configuration(wait=wait, sensor=sensor, sockets=by_kind(sockets))
    given = settings(Configured(config, command).value)
    wanted = Settings(
        wait_s=given.wait_s,
        sensor=given.sensor,
        sockets=given.sockets,
        usage=True,
        usage_at_s=(),
        usage_every_s=min(given.usage_every_s, _SETTLED_S),
    )
    sys.exit(run(wanted, Asked(every_s=every, **asked)))
