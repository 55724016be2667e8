"""
An unprivileged user who makes a hundred thousand cgroups that are named like containers.

By itself, for whoever watches: ``sudo .venv/bin/python -m tests.live.flood [NUMBER]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from tests.live.watching import unified

NOBODY: Final = 65534
# Ten at a time, so that they live for a moment: who makes and removes each at once is not faster.
_MAKES: Final = """
import os, sys
directory, number = sys.argv[1], int(sys.argv[2])
os.chdir(directory)
for first in range(0, number, 10):
    names = [f"docker-{n:08x}" + "f1" * 28 + ".scope" for n in range(first, min(first + 10, number))]
    for name in names:
        os.mkdir(name)
    for name in names:
        os.rmdir(name)
"""


class Flood:
    """`with Flood() as flood: flood.begin(100_003); …; flood.end()`. The user has a cgroup of his."""

    def __init__(self, user: int = NOBODY) -> None:
        self._user = user
        self._directory = unified() / f"ctrwatch-flood-{user}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._remove()
        self._directory.mkdir()
        os.chown(self._directory, self._user, self._user)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._remove()

    def begin(self, number: int) -> None:
        """Containers that are none are made from now on; see `fake`."""
        words = [sys.executable, "-c", _MAKES, str(self._directory), str(number)]
        self._process = subprocess.Popen(
            words, user=self._user, group=self._user, extra_groups=[], cwd="/"
        )

    @property
    def is_over(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def end(self) -> None:
        """Wait for the last one."""
        assert self._process is not None
        assert self._process.wait(300) == 0

    @staticmethod
    def fake(number: int) -> str:
        """The id of the one with that number, from 0."""
        return f"{number:08x}" + "f1" * 28

    def _remove(self) -> None:
        """Also what a killed one left."""
        with suppress(FileNotFoundError):
            for path in [*self._directory.iterdir()]:
                if path.is_dir():
                    path.rmdir()
            self._directory.rmdir()


if __name__ == "__main__":
    with Flood() as made:
        made.begin(int(sys.argv[1]) if len(sys.argv) > 1 else 100_003)
        made.end()
