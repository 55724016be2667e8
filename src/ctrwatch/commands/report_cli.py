"""The options of `ctrwatch report`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ctrwatch.commands.past_options import OF_STORE

__all__ = ("report",)


@click.command(
    short_help="The history of a period, for an auditor: HTML, JSON, CSV.",
    epilog="Example: sudo ctrwatch report --since 30d --policy approved-images --output report.html",
)
@OF_STORE
@click.option(
    "--since",
    metavar="TIME",
    help="RFC 3339, or how long ago: 7d, 2h.  [default: where the history begins]",
)
@click.option(
    "--until", metavar="TIME", help="The same; that moment is not included.  [default: now]"
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="FILE|DIR|NAME",
    help="Judge every container of the period by it. Can be given more than once.",
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="NUMBER:HASH",
    help="A head that was kept elsewhere, and must be in the history.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: standard output]"
)
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
@click.option("--csv", "as_csv", is_flag=True, help="The images as a table, for spreadsheets.")
def report(
    *,
    store: Path,
    since: str | None,
    until: str | None,
    policies: Sequence[str],
    heads: Sequence[str],
    output: Path | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """What was watched, what ran, and what a policy says of it: one HTML file.

    With the gaps, the losses and the state of the chain of hashes. Exit code 1 where the chain is
    broken; the report is written all the same, and says so.
    """
    from ctrwatch.commands.report import Question, run

    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    form = "json" if as_json else "csv" if as_csv else "html"
    sys.exit(run(Question(store, since, until, policies, heads), output, form))
