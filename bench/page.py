"""Figures as a table, and the page that they stand on."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from bench.programs import BenchError
from tests.live.daemons import command

MS = 1e6
US = 1e3
MB = 1 << 20


class Scale(NamedTuple):
    """How much of everything; prime numbers show what a batch size hides."""

    storm: int = 200_003  # cgroups
    load: int = 100_003  # cgroups, each time, for the cost
    storms: int = 3  # for the cost, of ctrwatch and of the floor in turn
    lonely: int = 1_009  # cgroups one at a time, for the latency at rest
    idle_s: float = 60
    docker_runs: int = 1_009
    runc_runs: int = 1_009
    living: int = 10_007
    churn: int = 100_003
    crowd: int = 1_009
    starts: int = 7
    births: int = 101
    judged: int = 1_009  # births, by policies
    rows: int = 1_000_003


FULL = Scale()
QUICK = Scale(
    storm=20_011,
    load=20_011,
    storms=1,
    lonely=101,
    idle_s=5,
    docker_runs=11,
    runc_runs=101,
    living=503,
    churn=2_003,
    crowd=101,
    starts=3,
    births=11,
    rows=20_011,
)


class Row(NamedTuple):
    """*met*: whether the bar is; None where there is none."""

    figure: str
    ours: str
    floor: str = ""
    bar: str = ""
    met: bool | None = None


class Section(NamedTuple):
    """What one module measured. *after* is prose and tables of its own, for below the table."""

    title: str
    rows: Sequence[Row]
    after: str = ""


def table(sections: Iterable[Section]) -> str:
    lines = ["| figure | ctrwatch | C floor | bar |", "|---|---|---|---|"]
    for section in sections:
        if not section.rows:
            continue
        lines.append(f"| **{section.title}** | | | |")
        lines += [
            f"| {row.figure} | {row.ours} | {row.floor} | {_bar(row)} |" for row in section.rows
        ]
    return "\n".join(lines) + "\n"


def page(sections: Sequence[Section]) -> str:
    after = "\n".join(section.after for section in sections if section.after)
    return PAGE.format(machine=machine(), table=table(sections), after=after)


def section(text: str, title: str) -> str:
    """Of a page: from that title, of the second level, up to the next; "" where there is none."""
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""


def replaced(text: str, title: str, section_: str) -> str:
    """The page with *section_*, its title included, in that section's place, or at its end."""
    if not section_:
        return text
    before = section(text, title)
    if not before:
        return f"{text.rstrip()}\n\n{section_.rstrip()}\n"
    end = "\n\n" if not text.endswith(before) else "\n"
    return text.replace(before, section_.rstrip() + end)


def _bar(row: Row) -> str:
    if row.met is None:
        return row.bar
    return f"{row.bar}: {'met' if row.met else '**not met**'}"


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def two(values: Sequence[float], digits: int = 2) -> str:
    """The median and the 99th percentile."""
    return f"{percentile(values, 50):.{digits}f} / {percentile(values, 99):.{digits}f}"


def megabytes(size: float) -> str:
    return f"{size / MB:.1f} MB"


def machine() -> str:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{datetime.now(UTC).date()}: {_cpu()},"
        f" {os.cpu_count()} cores, {memory_gb:.0f} GB; Linux {platform.release()};"
        f" {', '.join(_versions())}."
    )


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> Iterator[str]:
    yield f"ctrwatch {metadata.version('ctrwatch')}"
    yield f"Python {platform.python_version()}"
    for program in ("clang", "dockerd", "containerd", "podman", "runc"):
        try:
            yield command(program, "--version").splitlines()[0].split(",")[0]
        except (BenchError, FileNotFoundError):
            yield f"no {program}"


PAGE = """# Performance

Measured by `make bench`, which writes this page.

{machine}

{table}
{after}"""
