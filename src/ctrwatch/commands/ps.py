"""`ctrwatch ps`: the containers there are now, in one table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctrwatch.api import Snapshot, snapshot
from ctrwatch.commands.asked import FAILED
from ctrwatch.commands.table import print_table
from ctrwatch.config import Settings
from ctrwatch.core import render
from ctrwatch.core.text import clean, escaped
from ctrwatch.event import Audit, ContainerEvent, Violation

if TYPE_CHECKING:
    from ctrwatch.commands.verdicts import Verdicts

__all__ = ("run",)

_WIDTHS = {"name": 24, "image": 40, "pod": 30}


async def run(
    settings: Settings, verdicts: Verdicts | None, *, as_json: bool, whole: bool, verify: bool
) -> int:
    """The exit code: 1 where *verify* found a difference, 4 by `--fail-on`."""
    if verdicts is not None:
        verdicts.without_use(refuse=False)
    found = await snapshot(settings, verify=verify)
    events = sorted(found.containers, key=lambda event: event.ctime or 0, reverse=True)
    violations: Sequence[Violation] = ()
    if verdicts is not None:
        events, violations = verdicts.of(events)
    told: list[Audit | Violation] = [*violations, *found.findings]
    if as_json:
        shown = escaped if sys.stdout.isatty() else bytes
        for event in events:
            sys.stdout.buffer.write(shown(render.json_line(event)))
        for finding in told:
            sys.stdout.buffer.write(shown(render.host_json_line(finding)))
    else:
        _print(events, whole=whole)
        sys.stdout.writelines(render.host_text_line(finding) for finding in told)
    if verify:
        _say(found)
    if found.findings:
        return 1
    return FAILED if verdicts is not None and verdicts.failed else 0


def _say(found: Snapshot) -> None:
    """What the comparison came to, on standard error."""
    for why in found.unavailable:
        sys.stderr.write(f"ctrwatch: not compared: {why}\n")
    number, different = len(found.containers), len(found.findings)
    sys.stderr.write(
        f"ctrwatch: {number} containers, {different or 'none'} of them differing"
        " between the kernel and the runtimes\n"
    )


def _print(events: Sequence[ContainerEvent], *, whole: bool) -> None:
    rows: list[tuple[str, ...]] = [("ID", "RUNTIME", "NAME", "IMAGE", "POD", "AGE", "PID", "")]
    rows += [_row(event, whole=whole) for event in events]
    print_table(rows)


def _row(event: ContainerEvent, *, whole: bool) -> tuple[str, ...]:
    pod = "/".join(filter(None, (event.pod_namespace, event.pod_name)))
    limit = 4096 if whole else 0
    return (
        clean(event.container_id, limit) if whole else render.short_id(event.container_id),
        event.runtime,
        clean(event.container_name, limit or _WIDTHS["name"]) or "-",
        clean(event.container_image, limit or _WIDTHS["image"]) or "-",
        clean(pod, limit or _WIDTHS["pod"]) or "-",
        _age(event.ctime),
        str(event.init.pid or "-"),
        render.missing_mark(event).strip(),
    )


def _age(ctime_ns: int | None) -> str:
    """
    >>> _age(None)
    '-'
    """
    if ctime_ns is None:
        return "-"
    seconds = max(0, (time.time_ns() - ctime_ns) // 1_000_000_000)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
