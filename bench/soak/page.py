"""The verdict as a table, on standard output and as a section of docs/performance.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from bench.page import MB, machine, megabytes
from bench.soak.verdict import Verdict, growth

TITLE: Final = "Soak"
FLAT: Final = MB  # as bench/memory.py has it
LEAST_SAMPLES: Final = 6  # for a second and a last third


class Result(NamedTuple):
    verdict: Verdict
    seed: int
    minutes: float
    kills: Counter[str]
    gaps: Counter[str]  # by reason
    gap_s: float  # of all of them together
    audits: Counter[str]
    torn: int
    samples: Sequence[int]  # resident bytes of the last life, each 10 s

    @property
    def grown(self) -> float | None:
        """Bytes; None: it did not live long enough."""
        if len(self.samples) < LEAST_SAMPLES:
            return None
        second, last = growth(self.samples)
        return last - second

    @property
    def passed(self) -> bool:
        flat = self.grown is None or self.grown <= FLAT
        return not any(self.verdict.faults.values()) and not self.torn and flat


def section(result: Result) -> str:
    verdict = result.verdict
    rows = [
        ("containers started, as their runtimes' clients say", _counts(verdict.starts)),
        ("… and starts whose client failed with its daemon", _counts(verdict.unsure)),
        ("kills and stops", _counts(result.kills)),
        ("births announced", f"{verdict.births:,}"),
        ("… of them after a restart, not heard from the kernel", f"{verdict.unheard:,}"),
        ("started and not announced", _bar(verdict.count("missing"), 0)),
        ("… but for those that came and went inside of a `watch_gap`", _counts(verdict.excused)),
        ("`watch_gap` events", f"{_counts(result.gaps)}; {result.gap_s:.1f} s together"),
        ("announced twice", _bar(verdict.count("double"), 0)),
        ("listed as existing without having been announced", _bar(verdict.count("existing"), 0)),
        ("events out of order", _bar(verdict.count("order"), 0)),
        ("ends that were not told, or told of what runs", _bar(verdict.count("end"), 0)),
        ("lines that were torn", _bar(result.torn, 0)),
        ("`audit` events", _counts(result.audits)),
        ("status of the announcements", _counts(verdict.statuses)),
        ("… partial at first, and completed by an update", f"{verdict.completed:,}"),
        ("… why something was missing at first", _counts(verdict.partial)),
        ("resident memory, one life", _memory(result)),
    ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    return SECTION.format(
        minutes=f"{result.minutes:g}", machine=machine(), seed=result.seed, rows="\n".join(lines)
    )


def _memory(result: Result) -> str:
    if result.grown is None:
        return "too short to say"
    second, last = growth(result.samples)
    met = "met" if result.grown <= FLAT else "**not met**"
    return (
        f"{megabytes(second)} and {megabytes(last)}, medians of the second and the last third of"
        f" {len(result.samples) / 6:.0f} minutes; most {megabytes(max(result.samples))}."
        f" No growth: {met}"
    )


def _bar(value: int, bar: int) -> str:
    return f"{value:,}; {bar}: {'met' if value <= bar else '**not met**'}"


def _counts(counts: Counter[str]) -> str:
    if not counts.total():
        return "0"
    shown = ", ".join(f"{number:,} {name}" for name, number in counts.most_common())
    if len(counts) == 1:
        return shown
    return f"{counts.total():,} ({shown})"


def faults(verdict: Verdict, most: int) -> Iterable[str]:
    for kind, said in verdict.faults.items():
        for line in said[:most]:
            yield f"{kind}: {line}"
        if len(said) > most:
            yield f"{kind}: and {len(said) - most} more"


SECTION: Final = """## Soak
Measured by `make soak MINUTES={minutes}`, which writes this section.

{machine} Seed {seed}.

| | |
|---|---|
{rows}

Docker, `ctr` and Podman start containers that live between 0.1 s and five minutes; some are removed, some
stay, some are started again. Meanwhile dockerd, containerd and ctrwatch are killed (SIGKILL) and stopped
for a moment (SIGSTOP); in the second half ctrwatch is only stopped, for its memory. ctrwatch runs with
`--state` and is started again at once. What the clients said they had started, and what the runtimes list
at the end, is compared with what was announced; other containers of the host are left out.
A start whose client failed with its daemon may be announced or not, but not twice. What came and went inside
of a `watch_gap` must be announced where its runtime still has a record that was made in that time, and could be
asked; Podman's storage is at a place of its own here, where ctrwatch does not look for it.
"""
