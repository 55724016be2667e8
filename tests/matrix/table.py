"""docs/support.md, from what the runs wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from tests.matrix.watch import Outcome
from tests.matrix.ways import WAYS

__all__ = (
    "COLUMNS",
    "PAGE",
    "RESULTS",
    "Column",
    "cell",
    "page",
    "read",
    "worse",
    "write",
    "write_page",
)

RESULTS: Final = Path(__file__).with_name("results")
PAGE: Final = Path(__file__).parents[2] / "docs/support.md"
COLUMNS: Final = {
    "hybrid": "cgroup v1 and v2 (hybrid), cgroupfs driver",
    "v2": "cgroup v2, cgroupfs driver",
    "vm": "cgroup v2, systemd driver",
}
CAN_NOT: Final = (
    ("CRI-O", "its captured bundles and answers pass the contract tests, all ten fields"),
    ("nerdctl", "not run"),
    ("Podman's quadlets", "not run"),
    ("Kata Containers, gVisor", "not run"),
    ("a kubelet's own pods", "not run; the CRI rows do in the kubelet's place what it does"),
)


class Column(msgspec.Struct):
    """One kind of host, and what ran on it."""

    host: str  # kernel and versions
    ways: dict[str, Outcome]


def read(name: str, path: Path | None = None) -> Column | None:
    """The column called *name*, from the results that are kept, or from *path*."""
    path = path or RESULTS / f"{name}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Column)
    except FileNotFoundError:
        return None


def write(path: Path, column: Column) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(column), indent=1) + b"\n")


def write_page() -> None:
    """docs/support.md, from the results that are kept."""
    PAGE.write_text(page({name: read(name) for name in COLUMNS}))


def cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "not run"
    if outcome.not_run:
        return f"not run: {_escaped(outcome.not_run)}"
    return "; ".join(_words(outcome))


def _words(outcome: Outcome) -> Iterator[str]:
    born = outcome.born
    if outcome.seen < born:
        yield f"**{outcome.seen} of {born} seen**"
    if outcome.complete == outcome.seen:
        yield "complete"
    else:
        yield f"**{outcome.complete} of {born} complete**"
    yield "in time" if outcome.in_time == born else f"{outcome.in_time} of {born} in time"
    if outcome.ended < outcome.seen:
        yield f"**{outcome.seen - outcome.ended} without an end**"
    for each in sorted(set(outcome.wrong)):
        yield f"**{_escaped(each)}**"
    if outcome.besides:
        yield f"**{len(outcome.besides)} announced that are none**"


def worse(now: Outcome, said: Outcome) -> bool:
    """But for lateness: a busy machine's is not the way's."""
    if said.not_run:
        return False
    known = (said.seen, said.complete, said.ended)
    is_less = any(a < b for a, b in zip((now.seen, now.complete, now.ended), known, strict=True))
    return bool(now.not_run) or is_less or not set(now.wrong) <= set(said.wrong)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def page(columns: Mapping[str, Column | None]) -> str:
    return TEXT.format(
        hosts="\n".join(
            f"- **{COLUMNS[name]}**: {column.host if column else 'not run'}"
            for name, column in columns.items()
        ),
        table="\n".join(_table(columns)),
        others="\n".join(f"| {name} | {what} |" for name, what in CAN_NOT),
    )


def _table(columns: Mapping[str, Column | None]) -> Iterator[str]:
    yield f"| made by | {' | '.join(COLUMNS[name] for name in columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for way in WAYS:
        cells = [cell(column.ways.get(way.name) if column else None) for column in columns.values()]
        yield f"| {way.name} | {' | '.join(cells)} |"


TEXT: Final = """# Support

What a real ctrwatch told of real containers: each cell is a run. `make support` writes this page
for the host it runs on and for cgroup v2 in a mount namespace of its own, `make test-vm` for a
virtual machine in which systemd is process 1. `make test` goes the same ways and fails where a
cell has become worse, but for being in time: that is the machine's, which may be busy.

{hosts}

**complete**: every field the event can have is there, or has a final reason (a container made from
a directory has no image). **in time**: the line was in its reader's hands before the container's
first instruction. Every container of a cell was announced once, nothing else was, and its end was
told, unless the cell says otherwise.

{table}

What could not be run, for no package of Debian 12 has it:

| made by | |
|---|---|
{others}
"""
