"""Memory: at start, with ten thousand containers, and after a hundred thousand births and deaths."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from bench.crowd import AT_ONCE, Births, births
from bench.page import MB, Row, Scale, Section, megabytes
from bench.programs import Memory, Program, cpu_ns, floor, memory, ours
from bench.progress import say
from bench.storm import place

AT_MOST = 60 * MB
FLAT = MB  # a malloc's own moods; a leak of 20 bytes a birth shows
SAMPLES = 40
_LIFE = 2 * AT_ONCE  # births until a container is removed: it was told long before


def measure(scale: Scale) -> Section:
    with floor() as program:
        least = memory(program.pid)
    with tempfile.TemporaryDirectory() as home, place() as here:
        with births(here, Path(home, "living")) as them, ours(heard=them.heard) as program:
            at_start = memory(program.pid)
            say(f"memory: {scale.living:,} containers")
            them.make(range(scale.living))
            program.until(lambda: them.created == scale.living, "all are told")
            living = memory(program.pid)
            complete = them.complete
            them.remove(range(scale.living))
        with births(here, Path(home, "churn")) as them, ours(heard=them.heard) as program:
            say(f"memory: {scale.churn:,} births and deaths")
            samples, births_cpu_ns = _churn(them, program, scale.churn)
    half = statistics.median(each.rss for each in samples[SAMPLES // 2 : SAMPLES * 3 // 4])
    end = statistics.median(each.rss for each in samples[SAMPLES * 3 // 4 :])
    peak = max(each.rss for each in samples)
    each_kb = (living.own - at_start.own) / scale.living / 1024
    return Section(
        "Memory, resident",
        [
            Row("at start", _size(at_start), _size(least), "60 MB", at_start.rss <= AT_MOST),
            Row(
                f"with {scale.living:,} living containers, {complete:,} of them complete"
                f" ({each_kb:.1f} KB each)",
                _size(living),
                "",
                "60 MB",
                living.rss <= AT_MOST,
            ),
            Row(
                f"the most in {scale.churn:,} births and deaths",
                megabytes(peak),
                "",
                "60 MB",
                peak <= AT_MOST,
            ),
            Row(
                "… median of the third and of the last quarter",
                f"{megabytes(half)}, {megabytes(end)}",
                "",
                "no growth",
                end - half <= FLAT,
            ),
            Row("… CPU of each birth and death, ms", f"{births_cpu_ns / scale.churn / 1e6:.2f}"),
        ],
        NOTE,
    )


def _churn(them: Births, program: Program, number: int) -> tuple[list[Memory], int]:
    before_ns = cpu_ns(program.pid)
    samples = []
    for sample in range(SAMPLES):
        born = range(number * sample // SAMPLES, number * (sample + 1) // SAMPLES)
        for each in born:
            them.make(range(each, each + 1))
            if each >= _LIFE:
                them.remove(range(each - _LIFE, each - _LIFE + 1))
        samples.append(memory(program.pid))
        if sample % 4 == 3:
            say(f"memory: {born.stop:,} births, {megabytes(samples[-1].rss)}")
    them.remove(range(max(0, number - _LIFE), number))
    program.until(lambda: them.removed == number, "all are gone")
    samples.append(memory(program.pid))
    return samples, cpu_ns(program.pid) - before_ns


def _size(memory_: Memory) -> str:
    return (
        f"{megabytes(memory_.rss)} (own {megabytes(memory_.own)}, the kernel's ring"
        f" {megabytes(memory_.ring)})"
    )


NOTE = """## Memory
Resident is what `VmRSS` says. Of it *own* is written to and nobody else's; *the kernel's ring* is the
kernel's memory, mapped; the rest is files, programs and libraries, which others share.
For so many containers no real ones are started: one process plays `runc`, with the command line that runc
would have and the files that Docker would have written, makes a cgroup in the unified hierarchy for each,
and ctrwatch hears of it from the kernel as of any other. No process runs in them.
"""
