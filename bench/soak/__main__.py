"""
The soak test: real churn, random kills, and at the end every runtime's records against the stream.

    make soak MINUTES=30
    python -m bench.soak --minutes 30 --seed 7 --page      written to docs/performance.md, too

Run it as root. It judges its own containers only, so others may be at work beside it. The exit code
is 1 where something was missed, told twice or out of order, or memory grew. What is needed to
find out why stays in .build/soak until the next one: the stream, ctrwatch's log, the starts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from bench.page import megabytes, replaced
from bench.programs import BUILD, BenchError
from bench.progress import say
from bench.soak.churn import Garden, all_starts, removed
from bench.soak.engines import CtrEngine, DockerEngine, Engine, Listing, PodmanEngine, remove_all
from bench.soak.page import TITLE, Result, faults, section
from bench.soak.stream import read_stream
from bench.soak.trouble import Daemon, Trouble, Watcher
from bench.soak.verdict import SECOND_NS, Seen, Start, judge
from tests.live.bed import Bed
from tests.live.leftovers import cgroups_of

PAGE: Final = Path(__file__).parents[2] / "docs/performance.md"
HOME: Final = BUILD / "soak"
_SAMPLE_S: Final = 10.0
_SAY_S: Final = 60.0
_BEAT_S: Final = 0.25
_SETTLE_S: Final = 4.0  # more than `--wait`: what was born is told
_FAULTS: Final = 23  # lines of each kind


class Soak(NamedTuple):
    gardens: list[Garden]
    daemons: list[Daemon]
    watcher: Watcher
    trouble: Trouble
    minutes: float


class Listed(NamedTuple):
    """What there is at the end, beside the stream."""

    there: frozenset[str]
    records: list[Listing]


def main() -> None:
    asked = _arguments()
    if os.geteuid() != 0:
        sys.exit("soak: only root may load a BPF program and start containers")
    ended = threading.Event()  # looked at between two beats: whom it killed it starts again first
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1_000_000)
    say(f"soak: {asked.minutes:g} minutes, seed {seed}; {HOME} has the stream")
    try:
        result = _soak(asked.minutes, seed, ended, record=asked.record)
    except KeyboardInterrupt:
        sys.exit("soak: interrupted; nothing is judged")
    text = section(result)
    print(text)
    for line in faults(result.verdict, _FAULTS):
        print(line)
    if asked.page:
        PAGE.write_text(replaced(PAGE.read_text(), TITLE, text))
    say("passed" if result.passed else "NOT passed")
    sys.exit(not result.passed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, help="of a run before, which it printed")
    parser.add_argument("--record", action="store_true", help="keep ctrwatch's journals, too")
    parser.add_argument("--page", action="store_true", help="write docs/performance.md")
    return parser.parse_args()


def _soak(minutes: float, seed: int, ended: threading.Event, *, record: bool) -> Result:
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    with Bed() as bed, ExitStack() as stack:
        prefix = f"soak{os.getpid()}"
        engines: list[Engine] = [DockerEngine(bed), CtrEngine(bed, prefix), PodmanEngine(bed)]
        for engine in engines:
            stack.callback(remove_all, engine)
        daemons = [
            Daemon("dockerd", bed.docker.socket, {"docker"}),
            Daemon("containerd", bed.containerd, {"docker", "ctr"}),
        ]
        sockets = (f"docker={bed.docker.socket}", f"containerd={bed.containerd}")
        options = [word for each in sockets for word in ("--socket", each)]
        watcher = Watcher(HOME, *options, record=record)
        stack.callback(watcher.stop)
        watcher.start()
        watcher.until_listening()
        gardens = [Garden(engine, prefix, seed, _note) for engine in engines]
        soak = Soak(gardens, daemons, watcher, Trouble([*daemons, watcher, watcher], seed), minutes)
        try:
            for garden in gardens:
                stack.callback(garden.end)
                garden.begin()
            _churn(soak, ended)
        finally:
            for garden in gardens:
                garden.end()
        listed = _at_the_end(soak)
        failed = [line for garden in gardens for line in garden.failed]
        (HOME / "failures.log").write_text("\n".join(failed))
        return _result(soak, listed, seed)


def _churn(soak: Soak, ended: threading.Event) -> None:
    begun_s = time.monotonic()
    half_s, end_s = begun_s + soak.minutes * 30, begun_s + soak.minutes * 60
    sample_s, say_s, strike_s = begun_s, begun_s + _SAY_S, begun_s + soak.trouble.pause_s()
    while (now_s := time.monotonic()) < end_s:
        soak.watcher.check()
        for garden in soak.gardens:
            if garden.broken is not None:
                raise BenchError(f"{garden.engine.name}: {garden.broken!r}")
        if now_s >= strike_s:
            soak.trouble.strike(spared="ctrwatch" if now_s >= half_s else "")
            strike_s = time.monotonic() + soak.trouble.pause_s()
        if now_s >= sample_s:
            soak.watcher.sample()
            sample_s = now_s + _SAMPLE_S
        if now_s >= say_s:
            _say(soak, now_s - begun_s)
            say_s += _SAY_S
        if ended.wait(_BEAT_S):
            raise KeyboardInterrupt


def _say(soak: Soak, after_s: float) -> None:
    births = ", ".join(f"{garden.sure()} {garden.engine.name}" for garden in soak.gardens)
    unsure = sum(len(garden.starts) - garden.sure() for garden in soak.gardens)
    say(
        f"{after_s / 60:.0f} of {soak.minutes:g} minutes: {births}; {unsure} failed;"
        f" {soak.trouble.done.total()} kills and stops;"
        f" {megabytes(soak.watcher.resident())}"
    )


def _at_the_end(soak: Soak) -> Listed:
    """Nothing is started any more; what ends now by itself is told, or runs, or has its cgroup."""
    say("comparing")
    ids = {start.container for garden in soak.gardens for start in garden.starts}
    walked = cgroups_of(ids - {""})
    names = [directory.name for directory in walked]
    there = frozenset(each for each in ids if each and any(each in name for name in names))
    time.sleep(_SETTLE_S)
    soak.watcher.check()
    soak.watcher.stop()
    return Listed(there, [garden.engine.listing() for garden in soak.gardens])


def _note(start: Start) -> None:
    with (HOME / "starts.jsonl").open("a") as file:  # one write of a short line: threads don't mix
        file.write(json.dumps(start._asdict()) + "\n")


def _result(soak: Soak, listed: Listed, seed: int) -> Result:
    starts = all_starts(soak.gardens)
    started = frozenset[str]().union(*(each.started for each in listed.records))
    running = frozenset[str]().union(*(each.running for each in listed.records))
    ours = {start.container for start in starts if start.container} | started
    with soak.watcher.events.open("rb") as lines:
        stream = read_stream(lines, ours)
    seen = Seen(
        starts=starts,
        told=stream.told,
        gaps=stream.gaps,
        aways=[away for daemon in soak.daemons for away in daemon.aways],
        removed_ns=removed(soak.gardens),
        started=started,
        running=running,
        there=listed.there,
    )
    return Result(
        verdict=judge(seen),
        seed=seed,
        minutes=soak.minutes,
        kills=soak.trouble.done,
        gaps=Counter(gap.reason for gap in stream.gaps),
        gap_s=sum(gap.until_ns - gap.since_ns for gap in stream.gaps) / SECOND_NS,
        audits=stream.audits,
        torn=stream.torn,
        samples=soak.watcher.samples,
    )


if __name__ == "__main__":
    main()
