"""The load: cgroups made and removed as fast as the machine can, by as many processes as it has cores.

Nothing ever runs in them. One in a hundred is named like a container.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.live.watching import unified

NAMED = 100  # each of so many is named like a container
MAKERS = max(2, os.cpu_count() or 1)
TOP = "ctrwatch-bench"
_MAKER = """
import os, sys
top, maker, makers, number, named = sys.argv[1], *map(int, sys.argv[2:])
paths = [
    f"{top}/docker/{n:064x}" if named and n % named == 0 else f"{top}/job-{n}"
    for n in range(maker, number, makers)
]
print(flush=True)
sys.stdin.readline()
for path in paths:
    os.mkdir(path)
    os.rmdir(path)
"""


def container(number: int) -> str:
    return f"{number:064x}"


class Place:
    """A part of the unified hierarchy, removed at the end."""

    def __init__(self) -> None:
        self.path = unified() / TOP
        self.docker = self.path / "docker"

    def make(self, container_id: str) -> Path:
        directory = self.docker / container_id
        directory.mkdir()
        return directory


@contextmanager
def place() -> Iterator[Place]:
    here = Place()
    here.path.mkdir(exist_ok=True)
    here.docker.mkdir(exist_ok=True)
    try:
        yield here
    finally:
        for parent, _, _ in os.walk(here.path, topdown=False):
            Path(parent).rmdir()


class Storm:
    """`with Storm(here, 200_003) as storm: storm.begin(); storm.wait()`; `named` are its containers."""

    def __init__(self, here: Place, number: int, *, named: int = NAMED) -> None:
        """*named*: each of so many is named like a container; 0 is none."""
        self.number = number
        self.named = [container(n) for n in range(0, number, named)] if named else []
        self._named = str(named)
        self._words: Sequence[str] = (sys.executable, "-c", _MAKER, str(here.path))

    def __enter__(self) -> Self:
        self._makers = [
            subprocess.Popen(
                (*self._words, str(maker), str(MAKERS), str(self.number), self._named),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for maker in range(MAKERS)
        ]
        for maker in self._makers:
            assert maker.stdout is not None
            maker.stdout.readline()  # it is ready
        return self

    def begin(self) -> None:
        for maker in self._makers:
            assert maker.stdin is not None
            maker.stdin.write(b"\n")
            maker.stdin.flush()

    def wait(self) -> None:
        for maker in self._makers:
            if maker.wait() != 0:
                raise RuntimeError("a maker of cgroups failed")

    def __exit__(self, *_: object) -> None:
        for maker in self._makers:
            maker.kill()
            maker.wait()
            for pipe in (maker.stdin, maker.stdout):
                assert pipe is not None
                pipe.close()
