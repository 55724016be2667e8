"""The history: what a row costs, and how long a million of them take to be asked."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.page import Row, Scale, Section, megabytes
from bench.progress import say
from ctrwatch.core.describe import rfc3339
from ctrwatch.event import (
    Bill,
    ContainerEvent,
    EventName,
    HostFigures,
    HostRates,
    HostUsage,
    Violation,
)
from ctrwatch.outputs.heaviest import By, heaviest
from ctrwatch.outputs.history import Asked, History
from ctrwatch.outputs.store import Keep, Store
from tests.golden.test_golden import HERE as GOLDEN

_RUNS = 5
_LIFE: tuple[EventName, ...] = ("container_create", "container_start", "container_remove")
_BEGIN_NS = 1_767_225_600 * 10**9
_APART_NS = 7 * 10**9  # a million rows in 81 days
_WAITING = 2000  # rows that may wait, so that none finds the queue full


def measure(scale: Scale) -> Section:
    with tempfile.TemporaryDirectory(prefix="ctrwatch-bench-") as directory:
        path = Path(directory, "history.db")
        say(f"history: writing {scale.rows:,} rows")
        each_us, cpu_us = _write(path, scale.rows)
        size = path.stat().st_size
        with History(path) as history:
            say("history: asking")
            asked = [
                Row(f"{what}, ms", _asked(history, question))
                for what, question in _questions(scale.rows)
            ]
            asked += [
                Row(f"{what}, ms", _weighed(history, question, by))
                for what, question, by in _costs(scale.rows)
            ]
            say("history: verifying")
            begun_s = time.monotonic()
            proof = history.verify()
            took_s = time.monotonic() - begun_s
            assert not proof.findings
    return Section(
        f"History, {scale.rows:,} rows of real events, {megabytes(size)}",
        [
            Row("a row written, in batches, µs", f"{each_us:.0f}"),
            Row("… CPU of it, with making the event anew and its JSON, µs", f"{cpu_us:.0f}"),
            *asked,
            Row("`history --verify`, all rows, s", f"{took_s:.1f}"),
        ],
    )


def _write(path: Path, number: int) -> tuple[float, float]:
    store = Store(path, "bench", Keep(days=36_500, megabytes=1 << 20))
    store.start()
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    for event in _events(number):
        store.add(event)
        while len(store._waiting) > _WAITING:  # noqa: SLF001 - to measure it, not the queue
            time.sleep(0.001)
    store.close()
    assert (store.dropped, store.head.seq) == (0, number)
    cpu_s = time.process_time() - begun_cpu_s
    return (time.monotonic() - begun_s) / number * 1e6, cpu_s / number * 1e6


def _events(number: int) -> Iterator[ContainerEvent | Violation | HostUsage]:
    """Lives of containers as they were recorded, each with a name, an id and a time of its own."""
    samples = _samples()
    for at in range(number):
        time_ns = _BEGIN_NS + at * _APART_NS
        sample, life = samples[at // 3 % len(samples)], at // 3
        if at % 101 == 100:
            yield _violation(sample, life, time_ns)
            continue
        if at % 101 == 50:
            yield _host(at, time_ns)
            continue
        yield msgspec.structs.replace(
            sample,
            event=_LIFE[at % 3],
            id=f"{life:032x}{('', '-start', '-remove')[at % 3]}",
            time=rfc3339(time_ns),
            container_id=f"{life * 0x9E3779B97F4A7C15 % (1 << 64):016x}" * 4,
            container_name=f"job-{life}",
            container_image=f"registry.example.com/team-{life % 17}/app-{life % 97}:{life % 7}",
            container_image_digest=f"sha256:{life % 679:064x}",
            pod_name=f"job-{life}" if life % 2 else "",
            pod_namespace=f"team-{life % 17}" if life % 2 else "",
            usage=_bill(life) if at % 3 == 2 else None,
        )


def _bill(life: int) -> Bill:
    return Bill(
        duration_seconds=14.0, exit_code=0, final=True, read_before_end_seconds=0.01,
        cpu_seconds=life * 7919 % 10_007 / 1000, memory_peak_bytes=life * 104_729 % 1_000_003 << 10,
        oom_kills=0, io_read_bytes=life * 31 % 997 << 12, io_write_bytes=0,
    )  # fmt: skip


def _host(at: int, time_ns: int) -> HostUsage:
    return HostUsage(
        id=f"{at:032x}",
        time=rfc3339(time_ns),
        host="bench",
        usage=HostFigures(
            cpus=4, cpu_seconds=at * 5.0, memory_bytes=1 << 30, memory_total_bytes=1 << 34,
            io_read_bytes=at << 16, io_write_bytes=at << 15,
        ),
        rates=HostRates(seconds=707.0, cpu_cores=0.7),
    )  # fmt: skip


def _violation(sample: ContainerEvent, life: int, time_ns: int) -> Violation:
    return Violation(
        id=f"v{life:031x}", time=rfc3339(time_ns), host="bench", policy="approved", rule="digest",
        severity="critical" if life % 50 == 0 else "medium", tags=(), message="not approved",
        event_id=f"{life:032x}", runtime=sample.runtime, container_id=f"{life:064x}",
    )  # fmt: skip


def _samples() -> list[ContainerEvent]:
    lines = [
        line
        for path in sorted(GOLDEN.glob("*.events.jsonl"))
        for line in path.read_bytes().split(b"\n")
    ]
    decode = msgspec.json.Decoder(ContainerEvent).decode
    return [decode(line) for line in lines if line.startswith(b'{"event":"container_create"')]


def _questions(rows: int) -> Iterator[tuple[str, Asked]]:
    middle = rows // 6
    yield "`history`: the newest 1,000 of all", Asked(limit=1000)
    yield (
        "… one image, the newest 1,000",
        Asked(
            image=f"registry.example.com/team-{middle % 17}/app-{middle % 97}:{middle % 7}",
            limit=1000,
        ),
    )
    yield (
        "… a glob of images, `*/app-42:*`, the newest 1,000",
        Asked(image="*/app-42:*", limit=1000),
    )
    yield "… one digest", Asked(digest=f"sha256:{middle % 679:064x}")
    yield (
        "… one container, by the beginning of its id",
        Asked(id=f"{middle * 0x9E3779B97F4A7C15 % (1 << 64):016x}"),
    )
    yield "… one container, by its name", Asked(name=f"job-{middle}")
    yield "… a glob of names, `job-*77`, the newest 1,000", Asked(name="job-*77", limit=1000)
    yield "… critical violations", Asked(severities=("critical",))
    yield (
        "… one namespace in the last 7 of 81 days",
        Asked(namespace="team-3", since_ns=_BEGIN_NS + rows * _APART_NS - 7 * 86_400 * 10**9),
    )


def _costs(rows: int) -> Iterator[tuple[str, Asked, By]]:
    since_ns = _BEGIN_NS + rows * _APART_NS - 7 * 86_400 * 10**9
    yield "`history --heaviest`, the 20 of all", Asked(), "cpu"
    yield "… by memory, born in the last 7 of 81 days", Asked(since_ns=since_ns), "memory"
    yield "… of a glob of images, `*/app-42:*`", Asked(image="*/app-42:*"), "cpu"
    yield "… of one namespace", Asked(namespace="team-3"), "io"


def _weighed(history: History, question: Asked, by: By) -> str:
    took_ms = []
    number = 0
    for _ in range(_RUNS):
        begun_ns = time.monotonic_ns()
        number = len(heaviest(history, question, by, 20))
        took_ms.append((time.monotonic_ns() - begun_ns) / 1e6)
    return f"{statistics.median(took_ms):.1f} ({number:,} containers)"


def _asked(history: History, question: Asked) -> str:
    """The median, from the question to its last row, and how many those are."""
    took_ms = []
    number = 0
    for _ in range(_RUNS):
        begun_ns = time.monotonic_ns()
        number = sum(1 for _ in history.rows(question))
        took_ms.append((time.monotonic_ns() - begun_ns) / 1e6)
    return f"{statistics.median(took_ms):.1f} ({number:,} rows)"
