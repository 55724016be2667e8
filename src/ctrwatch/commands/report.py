"""`ctrwatch report`: a period of the history for an auditor, as HTML, JSON or CSV."""

from __future__ import annotations

import contextlib
import heapq
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ctrwatch.commands.verdicts import on_use, say_unjudged
from ctrwatch.core import cells, page
from ctrwatch.core.costs import Cost
from ctrwatch.core.coverage import Start
from ctrwatch.core.hashchain import Head
from ctrwatch.core.moments import moment
from ctrwatch.core.reported import Chain, Report
from ctrwatch.core.reporting import Reporter
from ctrwatch.core.rows import RowError, WatchStart
from ctrwatch.core.spending import ImageCost
from ctrwatch.core.text import clean, escaped
from ctrwatch.errors import InputError
from ctrwatch.outputs.heaviest import BY, heaviest
from ctrwatch.outputs.history import QUIET, Asked, History, Row
from ctrwatch.policies import load

__all__ = ("Question", "csv", "made", "run")

_HEAVIEST: Final = 50  # of each kind: CPU, memory, I/O
_CSV_HEAD: Final = (
    "container_image", "container_image_digest", "registry", "repository", "births", "running",
    "first", "last", "runtimes", "approved", "broke", "undecided",
    "measured", "cpu_seconds", "memory_peak_bytes", "io_read_bytes", "io_write_bytes", "oom_kills",
)  # fmt: skip


class Question(NamedTuple):
    """As the options have it; *since* and *until*: core/moments.py."""

    store: Path
    since: str | None = None
    until: str | None = None
    policies: Sequence[str] = ()
    heads: Sequence[str] = ()


def run(question: Question, output: Path | None, form: str) -> int:
    """*form*: html, json or csv. 1: the chain is broken."""
    report = made(question)
    text = _FORMS[form](report)
    if output is not None:
        _write(output, text)
    else:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(
                escaped(text) if form == "json" and sys.stdout.isatty() else text
            )
            sys.stdout.buffer.flush()
    if not report.chain.whole:
        sys.stderr.write("ctrwatch: the history's chain is NOT whole; the report says where\n")
        return 1
    return 0


def made(question: Question) -> Report:
    """Raises InputError."""
    store, since, until, policies, heads = question
    now_ns = time.time_ns()
    judged_by = load(policies)
    say_unjudged(on_use(judged_by))
    kept = [Head.parse(head) for head in heads]
    until_ns = moment("--until", until, now_ns) if until else now_ns
    since_ns = moment("--since", since, now_ns) if since else None
    with History(store) as history:
        starts = _starts(history, until_ns)
        if since_ns is None:
            since_ns = _first_ns(history, until_ns)
        if since_ns >= until_ns:
            raise InputError("--since is not before --until")
        reporter = Reporter(since_ns, until_ns, judged_by, starts)
        for row in _rows(history, until_ns):
            reporter.add(*row)
        asked = Asked(since_ns=since_ns, until_ns=until_ns)
        costs: dict[str, list[Cost]] = {
            by: heaviest(history, asked, by, _HEAVIEST, until_ns) for by in BY
        }
        chain = _chain(history, kept)  # last: of every row that was read
    return reporter.report(
        version=metadata.version("ctrwatch"), made_ns=now_ns, chain=chain, heaviest=costs
    )


def _rows(history: History, until_ns: int) -> Iterator[Row]:
    """All of them, in the order of their time."""
    quiet = history.rows(Asked(until_ns=until_ns, events=QUIET))
    others = history.rows(Asked(until_ns=until_ns))
    return heapq.merge(quiet, others, key=lambda row: (row.keys.time_ns, row.seq))


def _starts(history: History, until_ns: int) -> list[Start]:
    found = []
    for row in history.rows(Asked(until_ns=until_ns, events=("watch_start",))):
        with contextlib.suppress(RowError):
            event = row.event()
            if isinstance(event, WatchStart):
                found.append(Start(row.seq, row.keys.time_ns, event))
    return sorted(found)


def _first_ns(history: History, until_ns: int) -> int:
    """Where the history begins. Who was there before is no sign of a watch (core/coverage.py)."""
    for row in _rows(history, until_ns):
        if row.keys.event != "existing_container":
            return row.keys.time_ns
    return until_ns - 1


def _chain(history: History, kept: Sequence[Head]) -> Chain:
    proof = history.verify(kept)
    return Chain(
        whole=not proof.findings,
        rows=proof.rows,
        pruned_rows=proof.begin.seq,
        head=str(proof.end),
        compared=len(kept),
        findings=tuple(map(str, proof.findings)),
        more_findings=proof.more,
    )


# --- the forms --------------------------------------------------------------------------


def _html(report: Report) -> bytes:
    return page.html(report).encode()


def _json(report: Report) -> bytes:
    return msgspec.json.encode(report) + b"\n"


def csv(report: Report) -> bytes:
    """A line for each image and digest."""
    spent = report.spent.images if report.spent is not None else ()
    costs = {(each.container_image, each.container_image_digest): each for each in spent}
    lines = [cells.row(_CSV_HEAD)]
    lines += [
        cells.row(
            (
                *(ran.container_image, ran.container_image_digest, ran.registry, ran.repository),
                *(ran.births, ran.running, ran.first, ran.last, " ".join(ran.runtimes)),
                *(ran.approved, " ".join(ran.broke), " ".join(ran.undecided)),
                *_costs(costs.get((ran.container_image, ran.container_image_digest))),
            )
        )
        for ran in report.images
    ]
    return "".join(lines).encode()


def _costs(cost: ImageCost | None) -> tuple[object, ...]:
    """Of those of the image that were born in the period; empty where nothing is known."""
    if cost is None or not cost.containers:
        return (0, "", "", "", "", "")
    return (
        *(cost.containers, cost.cpu_seconds, cost.memory_peak_bytes),
        *(cost.io_read_bytes, cost.io_write_bytes, cost.oom_kills),
    )


_FORMS: Final[dict[str, Callable[[Report], bytes]]] = {"html": _html, "json": _json, "csv": csv}


def _write(path: Path, text: bytes) -> None:
    """Whole or not at all, where it is a file; readable for its owner and his group."""
    try:
        if path.exists() and not path.is_file():  # a device, a FIFO
            path.write_bytes(text)
            return
        made = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            with open(descriptor, "wb") as file:
                file.write(text)
            made.replace(path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"--output {clean(str(path), 200)}: {error.strerror}") from None
