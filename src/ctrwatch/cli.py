"""
The command line. Heavy imports stand in the commands: `--help` answers in 100 ms.

Exit codes: 0 done, or a watch ended by Ctrl-C, SIGTERM or a reader that has enough; 1 something
went wrong on the way (`events`: lines were not written; `doctor`: something is wrong with this
host); 2 an option or a file that can't be used; 3 this host can't run the sensor; 4 a
violation as severe as --fail-on says; 130 Ctrl-C before the command was done.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ctrwatch.commands.actions import actions, needs_openssl, options as action_options
from ctrwatch.commands.asked import Asked, options as verdict_options, verdicts
from ctrwatch.commands.history_cli import history
from ctrwatch.commands.lean import leave_out_openssl
from ctrwatch.commands.metrics_options import exposing, options as metrics_options
from ctrwatch.commands.one_line import Commands, OneLine
from ctrwatch.commands.policy_cli import policy
from ctrwatch.commands.report_cli import report
from ctrwatch.commands.top_cli import top
from ctrwatch.commands.watch_options import (
    config as _config,
    configured as _configured,
    sockets as _sockets,
    watch_options as _watch_options,
)
from ctrwatch.core.text import escaped

if TYPE_CHECKING:
    from ctrwatch.commands.kept import Kept
    from ctrwatch.core.configuration import FormatName, SensorName
    from ctrwatch.sensor.host import Host

__all__ = ("main",)

_FORMATS: Final = ("text", "json", "tracee")
_SENSORS: Final = ("auto", "ebpf", "fanotify")  # config.SensorName
_EPILOG: Final = "Exit codes: 0 done, 1 something went wrong, 2 bad option or file, 3 this host can't run the sensor, 4 --fail-on, 130 Ctrl-C before it was done."


@click.group(
    cls=Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="ctrwatch", message="ctrwatch %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Say on standard error what is going on.")
def main(*, verbose: bool) -> None:
    """Every container that is born on this host, whole, before its first instruction.

    \b
    sudo ctrwatch events          follow births and deaths
    sudo ctrwatch ps              the containers of every runtime, now
    sudo ctrwatch top             what they use, live
    ctrwatch explain /docker/…    what a cgroup path proves
    sudo ctrwatch doctor          what this host supports, and what to do
    ctrwatch policy list          rules for births: events --policy NAME
    sudo ctrwatch history         what events --store FILE kept
    sudo ctrwatch report          the same, for an auditor
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("ctrwatch: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


@main.command(
    short_help="Follow the containers of this host.",
    epilog="Example: sudo ctrwatch events --format json | jq 'select(.security.privileged)'\n\n"
    "With a file: echo 'wait = 0.5' > my.toml; sudo ctrwatch events --config my.toml; kill -HUP reloads it.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMATS),
    help="[default: text on a terminal, else json]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Append to this file instead of standard output.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    help="Keep the raw stream here, for `ctrwatch replay`.",
)
@click.option(
    "--raw/--no-raw",
    default=None,
    help="Also print the kernel's own cgroup_mkdir and cgroup_rmdir.",
)
@click.option(
    "--existing/--no-existing",
    default=None,
    help="Whether to list the containers that are there already.  [default: existing]",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Remember here what was announced: after a restart only what is new is announced as new.",
)
@click.option(
    "--audit",
    type=float,
    metavar="SECONDS",
    help="How often the host is compared with what was announced; 0 is never.  [default: 600]",
)
@click.option(
    "--sensor",
    type=click.Choice(_SENSORS),
    help="How to hear of cgroups.  [default: auto]",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep every event in this database, for `ctrwatch history`.",
)
@click.option(
    "--keep-days",
    type=float,
    default=90.0,
    show_default=True,
    help="How long --store keeps them.",
)
@click.option(
    "--keep-mb",
    type=int,
    default=2048,
    show_default=True,
    help="How much --store keeps.",
)
@click.option(
    "--usage",
    is_flag=True,
    default=None,
    help="Also tell what each container uses, and its bill when it ends.",
)
@click.option(
    "--usage-at",
    type=float,
    multiple=True,
    metavar="SECONDS",
    help="Ages at which that is told; may be given several times.  [default: 10, 60]",
)
@click.option(
    "--usage-every",
    type=float,
    metavar="SECONDS",
    help="How often old containers are looked at; young ones are more often.  [default: 60]",
)
@metrics_options
@action_options
@verdict_options
@_watch_options
def events(
    *,
    format_: FormatName | None,
    output: Path | None,
    record: Path | None,
    raw: bool | None,
    existing: bool | None,
    state: Path | None,
    audit: float | None,
    sensor: SensorName | None,
    usage: bool | None,
    usage_at: tuple[float, ...],
    usage_every: float | None,
    store: Path | None,
    keep_days: float,
    keep_mb: int,
    metrics: str | None,
    metrics_containers: int | None,
    config: Path | None,
    wait: float | None,
    sockets: Sequence[str],
    **asked: Any,
) -> None:
    """Follow the containers of this host: every birth, start, update and removal.

    First the containers that are there, then what happens, until Ctrl-C. Text on a
    terminal, one JSON object a line elsewhere.

    The text's columns: time, event, runtime, name, image, pod, id; after a "!" stands
    what is missing, and why.

    SIGHUP reads the file of --config again, and opens that of --output again.
    """
    from ctrwatch.commands.configured import Configured, settings
    from ctrwatch.core.configuration import Configuration, Output

    command = Configuration(
        wait=wait,
        existing=existing,
        raw=raw,
        record=_text(record),
        sensor=sensor,
        state=_text(state),
        audit=audit,
        metrics=metrics,
        metrics_containers=metrics_containers,
        usage=usage,
        usage_at=usage_at or None,
        usage_every=usage_every,
        sockets=_sockets(sockets),
        output=Output(format=format_, path=_text(output)),
    )
    configured = Configured(config, command)
    settings(configured.value)  # a wrong one is refused before anything begins
    if configured.value.metrics is None and not needs_openssl(
        asked
    ):  # prometheus-client loads it anyway
        leave_out_openssl()
    import asyncio

    from ctrwatch.commands.events import Extras, run

    acts = actions(asked, settings(configured.value).state)
    with exposing(configured) as exposed:
        judged = verdicts(Asked(**asked), configured.value.wait or 0)
        if judged is not None and not configured.value.usage:
            judged.without_use(refuse=True)
        keeps = _keeps(store, keep_days, keep_mb)
        extras = Extras(exposed, judged, keeps, acts)
        sys.exit(asyncio.run(run(configured, extras)))


@main.command(
    short_help="The containers of this host, now.",
    epilog="Example: sudo ctrwatch ps --json | jq -r .container_image | sort | uniq -c",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--no-trunc", is_flag=True, help="Whole ids, names and images.")
@click.option(
    "--verify",
    is_flag=True,
    help="Compare with what the runtimes list; exit code 1 where it differs.",
)
@verdict_options
@_watch_options
def ps(
    *,
    as_json: bool,
    no_trunc: bool,
    verify: bool,
    config: Path | None,
    wait: float | None,
    sockets: Sequence[str],
    **asked: Any,
) -> None:
    """The containers of this host now, of every runtime in one table.

    --verify asks Docker, containerd, the CRI and Podman for their own lists: one that runs and is
    not in the table, or that no runtime knows, is told below it.
    """
    leave_out_openssl()
    import asyncio

    from ctrwatch.commands.configured import by_kind
    from ctrwatch.commands.ps import run
    from ctrwatch.config import Settings

    if os.geteuid() != 0:
        click.echo("ctrwatch: not root: what only root may read is missing here", err=True)
    given = by_kind(_configured(config, sockets))
    settings = Settings(sockets=given) if wait is None else Settings(wait_s=wait, sockets=given)
    judged = verdicts(Asked(**asked))
    running = run(settings, judged, as_json=as_json, whole=no_trunc, verify=verify)
    sys.exit(asyncio.run(running))


@main.command(
    epilog="Example: find /sys/fs/cgroup -type d | sed s,/sys/fs/cgroup,, | ctrwatch explain -"
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def explain(paths: Sequence[str]) -> None:
    """What a cgroup path proves: one JSON object a path.

    PATH is relative to the cgroup mount, as in /proc/PID/cgroup; - reads paths from
    standard input, one a line.
    """
    import msgspec

    from ctrwatch.core.cgroup import explain as explained

    shown = escaped if sys.stdout.isatty() else bytes
    for path in paths:
        given = (
            (os.fsdecode(line.rstrip(b"\n")) for line in sys.stdin.buffer)
            if path == "-"
            else (path,)
        )
        for text in given:
            sys.stdout.buffer.write(shown(msgspec.json.encode(explained(text))) + b"\n")
            if path == "-":
                sys.stdout.buffer.flush()


@main.command(
    short_help="What this host supports, and what to do.",
    epilog="Example: sudo ctrwatch doctor --json | jq '.[] | select(.state != \"ok\")'",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@_config
@click.option(
    "--socket",
    "sockets",
    multiple=True,
    metavar="KIND=PATH",
    help="Also look at this daemon's socket.",
)
def doctor(*, as_json: bool, config: Path | None, sockets: Sequence[str]) -> None:
    """What this host supports: kernel, privileges, cgroups, runtimes; what is wrong, what to do.

    Exit code 1 when something that ctrwatch needs is missing.
    """
    from ctrwatch.commands.configured import by_kind
    from ctrwatch.commands.doctor import run

    sys.exit(run(by_kind(_configured(config, sockets)), as_json=as_json))


@main.command(
    short_help="Play a recorded stream again.",
    epilog="Example: sudo ctrwatch events --record births.jsonl; ctrwatch replay births.jsonl",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMATS),
    help="[default: text on a terminal, else json]",
)
@click.option(
    "--raw", is_flag=True, help="Also print the kernel's own cgroup_mkdir and cgroup_rmdir."
)
@verdict_options
def replay(*, file: Path, format_: str | None, raw: bool, **asked: Any) -> None:
    """Play a recorded stream through the same chain, with the same result."""
    from ctrwatch.commands.replay import run

    sys.exit(run(file, format_, verdicts(Asked(**asked)), raw=raw))


for _command in (history, policy, report, top):
    main.add_command(_command)


@main.command(epilog="Example: ctrwatch schema > event.schema.json")
def schema() -> None:
    """The JSON Schema of an event."""
    import json

    from ctrwatch.core.render import schema as of_event

    click.echo(json.dumps(of_event(), indent=2))


def _keeps(path: Path | None, days: float, megabytes: int) -> Callable[[Host], Kept] | None:
    if path is None:
        return None
    from ctrwatch.commands.kept import Kept
    from ctrwatch.outputs.store import Keep

    keep = Keep(days, megabytes).checked()
    return lambda host: Kept(path, keep, host)


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
