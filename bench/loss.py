"""Loss: a storm that nobody can outrun, and a reader that is away in the middle of it."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.page import Row, Scale, Section
from bench.programs import BenchError, Program, bpf_runs, floor, ours
from bench.progress import say
from bench.storm import NAMED, TOP, Place, Storm, place

STOP_AFTER_S, AWAY_S = 0.5, 5.0
LIVING = 23  # containers that are born while nobody reads, and stay
RESCAN_S = 10.0  # within so long after the loss they are announced
MARK = "f" * 64  # the last container: when it has gone, all before it was heard


class Told(NamedTuple):
    created: Counter[str]
    removed: Counter[str]
    lost: int  # the sum of all `lost_before`


def measure(scale: Scale) -> Section:
    with place() as here:
        return Section("Loss", [*_storm(here, scale), *_away(here, scale)])


def _storm(here: Place, scale: Scale) -> list[Row]:
    say(f"loss: {scale.storm:,} cgroups")
    with ours("--no-existing") as program, Storm(here, scale.storm) as storm:
        begun_s = time.monotonic()
        storm.begin()
        storm.wait()
        seconds = time.monotonic() - begun_s
        finish(here, program)
        missed = bpf_runs(program.pid).missed
    told = _told(program)
    once = sum(told.created[each] == 1 and told.removed[each] == 1 for each in storm.named)
    lost = _last_word(program)
    with floor() as program, Storm(here, scale.storm) as storm:
        storm.begin()
        storm.wait()
        finish(here, program)
    floor_seen = Counter(line.rpartition(b"/")[2].decode() for _, line in program.lines())
    floor_once = sum(floor_seen[each] == 1 for each in storm.named)
    floor_lost = int(program.said[-1][1].split()[1])
    pace = f"{scale.storm:,} cgroups made and removed in {seconds:.1f} s, 1 in {NAMED} a container"
    return [
        Row(
            f"{pace}: raw events lost", f"{lost + missed}", f"{floor_lost}", "0", lost + missed == 0
        ),
        Row(
            "… containers announced once, and their removal once",
            f"{once:,} of {len(storm.named):,}",
            f"{floor_once:,}",
            "all",
            once == len(storm.named),
        ),
    ]


def _away(here: Place, scale: Scale) -> list[Row]:
    """A record is made for each mkdir, rmdir and first task; what ours were must add up."""
    say(f"loss: the reader is stopped for {AWAY_S:.0f} s")
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        journal = Path(home, "journal")
        with ours("--record", str(journal)) as program, Storm(here, scale.storm) as storm:
            storm.begin()
            time.sleep(STOP_AFTER_S)
            program.process.send_signal(signal.SIGSTOP)
            back_s = time.monotonic() + AWAY_S
            time.sleep(AWAY_S / 2)  # the ring is full by now
            living = [_live(here, number, stack) for number in range(LIVING)]
            time.sleep(max(0, back_s - time.monotonic()))
            program.process.send_signal(signal.SIGCONT)
            storm.wait()
            finish(here, program)
            with suppress(BenchError):  # then its row says so
                _until_told(program, living)
        made = 2 * scale.storm + 2 * LIVING + 2  # with the mark's two, and those who entered
        seen = _seen(journal)
        stack.close()
    told, lost = _told(program), _last_word(program)
    there = sum(told.created[each] == 1 for each in living)
    doubles = sum(count > 1 for count in told.created.values())
    return [
        Row(
            f"reader stopped for {AWAY_S:.0f} s in the middle: made = seen + lost",
            f"{made:,} = {seen:,} + {lost:,}" if made == seen + lost
            else f"{made:,} ≠ {seen:,} + {lost:,}",
            "",
            "exact",
            made == seen + lost and lost > 0,
        ),
        Row("… the sum of `lost_before` in the stream", f"{told.lost:,}", "", "the same",
            told.lost == lost),
        Row("… containers announced more than once", f"{doubles}", "", "0", doubles == 0),
        Row(
            "… containers born meanwhile and still there, announced",
            f"{there} of {LIVING}",
            "",
            "all",
            there == LIVING,
        ),
    ]  # fmt: skip


def _live(here: Place, number: int, stack: ExitStack) -> str:
    """A container with a process in it, which is there until the stack is closed."""
    name = f"{number:08x}" + "1e" * 28
    directory = here.make(name)
    stack.callback(directory.rmdir)
    process = subprocess.Popen(["/bin/busybox", "sleep", "2147483647"])
    stack.callback(process.wait)
    stack.callback(process.kill)
    (directory / "cgroup.procs").write_text(str(process.pid))
    return name


def finish(here: Place, program: Program) -> None:
    """Returns when all that happened so far was heard."""
    here.make(MARK).rmdir()
    if program.time_of("floor"):
        program.until_line(MARK.encode())
    else:
        program.until_line(b'"event":"container_remove","id":', deadline_s=60)
        program.until(lambda: _ended(program), "the last container's removal")


def _ended(program: Program) -> bool:
    return any(
        MARK.encode() in line and b"container_remove" in line
        for _, chunk in program.chunks[-64:]
        for line in chunk.splitlines()
    )


def _until_told(program: Program, living: list[str]) -> None:
    for each in living:
        program.until_line(each.encode(), RESCAN_S)


def _told(program: Program) -> Told:
    told = Told(Counter(), Counter(), 0)
    for _, line in program.lines():
        event: dict[str, Any] = json.loads(line)
        told = told._replace(lost=told.lost + event.get("lost_before", 0))
        if event["event"] in ("container_create", "existing_container"):
            told.created[event["container_id"]] += 1
        elif event["event"] == "container_remove":
            told.removed[event["container_id"]] += 1
    return told


def _seen(journal: Path) -> int:
    """Raw events of ours in the journal."""
    decoder = msgspec.json.Decoder()
    seen = 0
    with journal.open("rb") as lines:
        for line in lines:
            if line.startswith(b'{"type":"raw"') and f"/{TOP}/".encode() in line:
                seen += decoder.decode(line)["path"].startswith(f"/{TOP}/")
    return seen


def _last_word(program: Program) -> int:
    return int(program.said[-1][1].rpartition(" lost")[0].rpartition(" ")[2])
