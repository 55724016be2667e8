"""The options of `ctrwatch history`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ctrwatch.commands.past_options import OF_STORE

if TYPE_CHECKING:
    from ctrwatch.outputs.heaviest import By
    from ctrwatch.outputs.history import Asked

__all__ = ("history",)


@click.command(
    short_help="What was told, asked for again.",
    epilog="Example: sudo ctrwatch history --since 7d --image nginx --csv > nginx.csv",
)
@OF_STORE
@click.option("--image", metavar="GLOB", help="As the event names it, or as you would: nginx.")
@click.option("--digest", metavar="DIGEST", help="sha256:…, or its beginning.")
@click.option("--runtime", metavar="NAME", help="docker, containerd, podman, …")
@click.option("--pod", metavar="GLOB")
@click.option("--namespace", metavar="GLOB", help="The pod's Kubernetes namespace.")
@click.option("--name", metavar="GLOB", help="The container's name.")
@click.option("--id", "id_", metavar="ID", help="A container's or an event's, or its beginning.")
@click.option("--event", "events_", multiple=True, metavar="EVENT", help="As container_create.")
@click.option("--violation", "--violations", "violations", is_flag=True, help="Only violations.")
@click.option(
    "--severity",
    "severities",
    multiple=True,
    type=click.Choice(("info", "low", "medium", "high", "critical")),
    help="Only violations of it.",
)
@click.option("--since", metavar="TIME", help="RFC 3339, or how long ago: 7d, 2h.")
@click.option("--until", metavar="TIME", help="The same; that moment is not included.")
@click.option(
    "--where", metavar="EXPR", help="Only of containers for which this CEL expression holds."
)
@click.option("--limit", type=click.IntRange(1), help="The newest ones. [default: 1000 in a table]")
@click.option(
    "--heaviest",
    is_flag=False,
    flag_value="cpu",
    type=click.Choice(("cpu", "memory", "io")),
    help="The containers born in that time that used most of it, with their share of the host:"
    " cpu where nothing is named; 20, or as --limit says.",
)
@click.option("--json", "as_json", is_flag=True, help="The events as they were, one a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, for spreadsheets.")
@click.option(
    "--verify", is_flag=True, help="Look whether a row was changed, taken away or put in."
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="NUMBER:HASH",
    help="With --verify: a head that was printed then must be in it.",
)
def history(
    *,
    store: Path,
    where: str | None,
    as_json: bool,
    as_csv: bool,
    heaviest: By | None,
    verify: bool,
    heads: Sequence[str],
    **given: Any,
) -> None:
    """What `events --store FILE` kept: by image, digest, runtime, pod, name, time, violation.

    Oldest first. --verify looks at the chain of hashes through all rows, says where it is broken
    (exit code 1), and prints its newest head: keep that elsewhere. --heaviest takes what
    `events --usage` told.
    """
    from ctrwatch.commands import history as command
    from ctrwatch.commands.filters import asked
    from ctrwatch.core.hashchain import Head

    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    if heads and not verify:
        raise click.UsageError("--head goes with --verify")
    if verify:
        sys.exit(command.verify(store, [Head.parse(head) for head in heads]))
    form = "json" if as_json else "csv" if as_csv else "table"
    if heaviest is not None:
        _heaviest(store, asked(**given), heaviest, form, where)
    sys.exit(command.run(store, asked(**given), form, where))


def _heaviest(store: Path, asked: Asked, by: By, form: str, where: str | None) -> NoReturn:
    from ctrwatch.commands import heaviest as command

    if where is not None or asked.events or asked.severities:
        raise click.UsageError("--heaviest goes with neither --where, --event nor --violation")
    sys.exit(command.run(store, asked, by, form))
