"""Births by the ten thousand, each with a whole story, for what a container costs in memory.

A real container costs a second and ten megabytes; of its birth ctrwatch sees the cgroup, the command
line of the OCI runtime that makes it, the bundle and Docker's record. So one process plays runc: before
each mkdir it writes the command line that runc would have into its own, and the files that Docker would
have written are there (from tests/data/docker). No task enters the cgroups; an event is complete without,
after 100 ms.

    python -m bench.crowd TOP HOME      a program for `Births`: reads `+N` and `-N`
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.programs import BenchError, Chunk
from bench.storm import Place

DATA = Path(__file__).parents[1] / "tests/data/docker"
AT_ONCE = 512  # births that are not told yet: they wait 100 ms for a first task
_ROOM = 1024  # bytes of the command line that is written over


def container(number: int) -> str:
    return f"{number:08x}" + "c0" * 28


class Births:
    """Makes and removes containers, no faster than they are told; `heard` takes ctrwatch's lines."""

    def __init__(self, here: Place, home: Path) -> None:
        home.mkdir()
        shutil.copytree(DATA / "root/image", home / "docker/image")
        words = (sys.executable, "-m", "bench.crowd", str(here.docker), str(home))
        self._maker = subprocess.Popen(
            (*words, "-" * _ROOM), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._told = threading.Semaphore(AT_ONCE)
        self.created = self.complete = self.removed = 0
        self._order("")

    def heard(self, chunk: Chunk) -> None:
        for line in chunk[1].splitlines():
            if b'"event":"container_create"' in line:
                self.created += 1
                self.complete += b'"status":"complete"' in line
                self._told.release()
            elif b'"event":"container_remove"' in line:
                self.removed += 1

    def make(self, numbers: range) -> None:
        for number in numbers:
            if not self._told.acquire(timeout=30):
                raise BenchError(f"{self.created} births were told, and no more for 30 s")
            self._order(f"+{number}")

    def remove(self, numbers: range) -> None:
        for number in numbers:
            self._order(f"-{number}")

    def _order(self, word: str) -> None:
        """Done when this returns."""
        assert self._maker.stdin is not None
        assert self._maker.stdout is not None
        self._maker.stdin.write(word + "\n")
        self._maker.stdin.flush()
        if self._maker.stdout.readline() != "done\n":
            raise BenchError("the maker of births failed")

    def close(self) -> None:
        self._maker.kill()
        self._maker.wait()
        for pipe in (self._maker.stdin, self._maker.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def births(here: Place, home: Path) -> Iterator[Births]:
    them = Births(here, home)
    try:
        yield them
    finally:
        them.close()


# --- the process that plays runc ----------------------------------------------------------


class _CommandLine:
    """This process's own, where the kernel reads it: proc(5), arg_start and arg_end of stat."""

    def __init__(self) -> None:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        self._start, end = int(fields[45]), int(fields[46])
        self._size = end - self._start

    def write(self, *words: str) -> None:
        """As long as it was: the flag --log takes what is left."""
        before, after = b"runc\0--log\0", "\0".join(("", *words, "")).encode()
        filler = b"x" * (self._size - len(before) - len(after))
        ctypes.memmove(self._start, before + filler + after, self._size)


class _Maker:
    def __init__(self, top: Path, home: Path) -> None:
        self._top, self._home = top, home
        self._tasks = home / "io.containerd.runtime.v2.task/moby"
        self._root = home / "docker"
        known = json.loads((DATA / "ids.json").read_text())["by-name"]
        bundle = (DATA / "bundle.json").read_text().replace("/var/lib/docker", str(self._root))
        record = (DATA / f"root/containers/{known}/config.v2.json").read_text()
        self._known, self._bundle, self._record = known, bundle, record
        self._line = _CommandLine()

    def make(self, container_id: str) -> None:
        task, kept = self._tasks / container_id, self._root / "containers" / container_id
        for directory, name, text in (
            (task, "config.json", self._bundle),
            (kept, "config.v2.json", self._record),
        ):
            os.makedirs(directory)
            with open(directory / name, "w") as file:
                file.write(text.replace(self._known, container_id))
        self._line.write("create", "--bundle", str(task), container_id)
        os.mkdir(self._top / container_id)

    def remove(self, container_id: str) -> None:
        os.rmdir(self._top / container_id)
        shutil.rmtree(self._tasks / container_id)
        shutil.rmtree(self._root / "containers" / container_id)


def main() -> None:
    maker = _Maker(Path(sys.argv[1]), Path(sys.argv[2]))
    Path("/proc/self/comm").write_text("runc")
    for order in sys.stdin:
        sign, number = order[:1], order[1:]
        if sign == "+":
            maker.make(container(int(number)))
        elif sign == "-":
            maker.remove(container(int(number)))
        print("done", flush=True)


if __name__ == "__main__":
    main()
