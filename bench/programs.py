"""What is measured: ctrwatch and the C floor, as programs at work, and the numbers of their processes.

A program's output is read by a thread that only stamps it with the time of its arrival; the lines
are looked at when the measuring is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

ROOT = Path(__file__).parents[1]
BUILD = ROOT / ".build"
BPF = ROOT / "src/ctrwatch/sensor/bpf"
CTRWATCH = (sys.executable, "-m", "ctrwatch", "events", "--format", "json")
PIPE_BYTES = 1 << 20  # the most that anybody may ask for: /proc/sys/fs/pipe-max-size
CHUNK_BYTES = 1 << 16
DEADLINE_S = 60.0

Chunk = tuple[int, bytes]  # CLOCK_BOOTTIME of its arrival, whole lines


class BenchError(Exception):
    """It can't be measured; the message says why."""


class Program:
    """
    `with Program(words, "attached") as program:`, which says *ready* on standard error.

    *heard* is called with each chunk of whole lines, in the reader's thread; without it
    they are kept in `chunks`.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        ready: str,
        *,
        heard: Callable[[Chunk], None] | None = None,
    ) -> None:
        self._words, self._ready = words, ready
        self.chunks: list[Chunk] = []
        self._heard = heard or self.chunks.append
        self.said: list[tuple[int, str]] = []  # on standard error, with its time
        self._changed = threading.Condition()
        self._ended = False

    def __enter__(self) -> Self:
        self.begun_ns = boot_ns()
        self.process = subprocess.Popen(
            self._words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout,)),
            threading.Thread(target=self._listen, args=(self.process.stderr,)),
        ]
        for thread in self._threads:
            thread.start()
        try:
            self.until(lambda: self.time_of(self._ready) is not None, self._ready)
        except BaseException:
            self.process.kill()
            self._join()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_S)
        self._join()

    def until(self, holds: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Looked at whenever the program has said something."""
        with self._changed:
            self._changed.wait_for(lambda: holds() or self._ended, deadline_s)
            if not holds():
                said = "".join(line for _, line in self.said[-20:])
                raise BenchError(f"not within {deadline_s} s: {what}; it said:\n{said}")

    def until_line(self, part: bytes, deadline_s: float = DEADLINE_S) -> None:
        """Until a line with *part* in it is there, among the chunks that are kept."""
        seen = 0

        def holds() -> bool:
            nonlocal seen
            while seen < len(self.chunks):
                if part in self.chunks[seen][1]:
                    return True
                seen += 1
            return False

        self.until(holds, part.decode(), deadline_s)

    def time_of(self, word: str) -> int | None:
        """When it first said so on standard error."""
        return next((at_ns for at_ns, line in self.said if word in line), None)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        for arrived_ns, chunk in self.chunks:
            for line in chunk.splitlines():
                yield arrived_ns, line

    def _read(self, pipe: IO[bytes]) -> None:
        rest = b""
        while more := os.read(pipe.fileno(), CHUNK_BYTES):
            arrived_ns = boot_ns()
            whole, newline, rest = (rest + more).rpartition(b"\n")
            if newline:
                with self._changed:
                    self._heard((arrived_ns, whole + newline))
                    self._changed.notify_all()

    def _listen(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            with self._changed:
                self.said.append((boot_ns(), line.decode()))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _join(self) -> None:
        for thread, pipe in zip(
            self._threads, (self.process.stdout, self.process.stderr), strict=True
        ):
            thread.join(DEADLINE_S)
            if pipe is not None:
                pipe.close()


def ours(*options: str, heard: Callable[[Chunk], None] | None = None) -> Program:
    return Program((*CTRWATCH, *options), "listening", heard=heard)


def floor(*options: str) -> Program:
    """The C program of floor.c, compiled where it is older than what it is made of."""
    program, source, header = BUILD / "floor", ROOT / "bench/floor.c", BPF / "event.h"
    made = program.stat().st_mtime if program.exists() else 0
    if made < max(source.stat().st_mtime, header.stat().st_mtime):
        compiler = shutil.which("clang") or shutil.which("cc")
        if compiler is None:
            raise BenchError("no C compiler; `make setup` installs clang")
        BUILD.mkdir(exist_ok=True)
        words = (compiler, "-O2", "-Wall", "-Werror", f"-I{BPF}", "-o", program, source, "-lbpf")
        subprocess.run(words, check=True)
    return Program((program, *options, BPF / "birth.bpf.o"), "attached")


def environment() -> dict[str, str]:
    """With compiled modules, as an installed package has them, and nothing written into the tree."""
    mine = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**mine, "PYTHONPYCACHEPREFIX": str(BUILD / "pycache")}


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


# --- numbers of a process ---------------------------------------------------------------


def cpu_ns(pid: int) -> int:
    """User and system time of all its threads, as the scheduler counts it: exact."""
    return sum(int(path.read_text().split()[0]) for path in _tasks(pid, "schedstat"))


class Wakes(NamedTuple):
    switches: int  # voluntary context switches of all threads: each ends with a wake-up
    runs: int  # times that any of them was put on a CPU
    cpu_ns: int


def wakes(pid: int) -> Wakes:
    switches = (
        int(found[1])
        for path in _tasks(pid, "status")
        if (
            found := re.search(r"^voluntary_ctxt_switches:\s*(\d+)", path.read_text(), re.MULTILINE)
        )
    )
    runs = sum(int(path.read_text().split()[2]) for path in _tasks(pid, "schedstat"))
    return Wakes(sum(switches), runs, cpu_ns(pid))


class Memory(NamedTuple):
    """Bytes."""

    rss: int
    pss: int  # shared pages by their share
    own: int  # private and written to: what nobody else has
    ring: int  # of it the mapping of the kernel's ring, which is the kernel's memory


def memory(pid: int) -> Memory:
    rollup = _sizes(Path(f"/proc/{pid}/smaps_rollup").read_text())
    ring = 0
    for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps(pid), flags=re.MULTILINE):
        if "anon_inode:bpf-map" in mapping:
            ring += _sizes(mapping)["Rss"]
    return Memory(rollup["Rss"], rollup["Pss"], rollup["Private_Dirty"], ring)


def smaps(pid: int) -> str:
    return Path(f"/proc/{pid}/smaps").read_text()


class Runs(NamedTuple):
    """Of the BPF programs that a process holds; time only while kernel.bpf_stats_enabled is 1."""

    ns: int
    times: int
    missed: int


def bpf_runs(pid: int) -> Runs:
    """All programs together: proc(5), /proc/PID/fdinfo of a bpf-prog."""
    total = Runs(0, 0, 0)
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a file that it has closed meanwhile
            if os.readlink(fd) != "anon_inode:bpf-prog":
                continue
            text = (fd.parents[1] / "fdinfo" / fd.name).read_text()
            found = dict(re.findall(r"^(\w+):\t(\d+)$", text, re.MULTILINE))
            total = Runs(
                total.ns + int(found["run_time_ns"]),
                total.times + int(found["run_cnt"]),
                total.missed + int(found.get("recursion_misses", "0")),
            )
    return total


def _tasks(pid: int, name: str) -> list[Path]:
    return [task / name for task in Path(f"/proc/{pid}/task").iterdir()]


def _sizes(text: str) -> dict[str, int]:
    return {
        name: int(size) << 10
        for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)
    }
