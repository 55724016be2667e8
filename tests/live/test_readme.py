"""The README's first screen is what a person sees who watches `make demo` on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from scripts.readme_run import BEGIN, END, README
from tests.live.bed import Bed
from tests.live.waiting import until
from tests.live.watching import CTRWATCH, DEADLINE_S, environment

COLUMNS: Final = 160
RECORD_ANEW = "it shows another run than today's: sudo .venv/bin/python -m scripts.readme_run"
COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
CHANGING: Final = (  # what differs from run to run, and from host to host
    (COLOUR, ""),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{12}$"), "ID"),
    (re.compile(r"watching \S+ \(Linux \S+, cgroups \w+\)"), "watching HOST"),
    (re.compile(r"runtimes: .*"), "runtimes: SOME"),
    (re.compile(r"\b\d+ (containers were there|seen|complete)"), r"N \1"),
)


class Terminal:
    """A terminal of 160 columns, and what has been shown on it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, COLUMNS, 0, 0))
        self.shown = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def lines(self) -> list[str]:
        """Until all who write to it have closed it."""
        self._reader.join(DEADLINE_S)
        return self.shown.decode().replace("\r\n", "\n").splitlines()

    def _read(self) -> None:
        try:
            while chunk := os.read(self._ours, 1 << 16):
                self.shown += chunk
        except OSError:  # EIO: the last writer has closed it
            pass
        os.close(self._ours)


@contextmanager
def watching() -> Iterator[Terminal]:
    """`ctrwatch events` on a terminal, from the first event it can hear to its last word."""
    terminal = Terminal()
    process = subprocess.Popen(
        (*CTRWATCH, "events"), stdout=terminal.theirs, stderr=terminal.theirs, env=environment()
    )
    os.close(terminal.theirs)
    try:
        until("it listens", lambda: b"listening" in terminal.shown, DEADLINE_S)
        yield terminal
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)


def demo(bed: Bed) -> None:
    """The demo's containers, by the bed's runtimes instead of the host's own."""
    home = bed.home / "demo"
    home.mkdir()
    bed._will_make_cgroups("libpod_parent")
    (home / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{home}/storage"\nrunroot = "{home}/run"\n'
    )
    (home / "containers.conf").write_text(
        f'[engine]\ntmp_dir = "{home}/tmp"\nevents_logger = "file"\n'
    )
    subprocess.run(
        (sys.executable, "-m", "scripts.demo"), cwd=README.parent, check=True, timeout=120,
        stdout=subprocess.DEVNULL,
        env={
            **environment(),
            "PATH": "/usr/bin:/usr/sbin:" + os.environ["PATH"],  # the client of the bed's dockerd
            "DOCKER_HOST": f"unix://{bed.docker.socket}",
            "CONTAINERD_ADDRESS": str(bed.ctr.socket),
            "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
            "CONTAINERS_CONF": str(home / "containers.conf"),
        },
    )  # fmt: skip


def shape(line: str) -> str:
    for pattern, name in CHANGING:
        line = pattern.sub(name, line)
    return line


def births(lines: list[str]) -> dict[tuple[str, str], list[str]]:
    """By runtime and container the shapes of its lines, in order. Late evidence is no shape."""
    by_container: dict[tuple[str, str], list[str]] = {}
    for line in map(shape, lines):
        words = line.split()
        if words[:1] == ["TIME"] and words[1] in ("create", "start", "remove"):
            by_container.setdefault((words[2], words[3]), []).append(line)
    return by_container


@pytest.fixture(scope="module")
def today(bed: Bed) -> list[str]:
    with watching() as terminal:
        demo(bed)
    return terminal.lines()


@pytest.fixture(scope="module")
def shown() -> list[str]:
    _, _, rest = README.read_text().partition(BEGIN)
    return rest.partition(END)[0].splitlines()[2:-1]  # without the fence and the command


def test_the_containers_are_told_as_the_readme_shows(today: list[str], shown: list[str]) -> None:
    told = births(today)
    expected = births(shown)

    assert len(expected) >= 2
    assert {key: told.get(key) for key in expected} == expected, RECORD_ANEW


def test_the_words_around_them_are_the_readmes(today: list[str], shown: list[str]) -> None:
    said = [shape(line) for line in shown if line.startswith("ctrwatch: ")]

    assert [line for line in map(shape, today) if line.startswith("ctrwatch: ")] == said, (
        RECORD_ANEW
    )


def test_they_fit_on_the_terminal(today: list[str]) -> None:
    lines = [COLOUR.sub("", line) for line in today]

    assert [line for line in lines if "demo-" in line and len(line) > COLUMNS] == []
