"""A process as the real /proc shows it: this one, and one that it makes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ctrwatch.sensor import proc

ENDED = 0x7FFFFFFF  # no kernel gives so high a pid away
WAITS = "import sys; print(flush=True); sys.stdin.read()"


@contextmanager
def waiting(*words: str) -> Iterator[int]:
    """A process that has come as far as to its own code."""
    command = (sys.executable, "-c", WAITS, *words)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


@pytest.fixture
def child() -> Iterator[int]:
    with waiting("a b", "", "ü") as pid:
        yield pid


def test_who_it_is(child: int) -> None:
    task = proc.task(child)

    assert task is not None
    assert (task.pid, task.ppid, task.uid, task.gid) == (
        child,
        os.getpid(),
        os.getuid(),
        os.getgid(),
    )
    assert task.mnt_ns == os.stat("/proc/self/ns/mnt").st_ino
    assert task.pid_ns == os.stat("/proc/self/ns/pid").st_ino
    mine = proc.task(os.getpid())
    assert mine is not None
    assert 0 < mine.start_ns <= task.start_ns


def test_a_command_line_word_by_word(child: int) -> None:
    assert proc.argv(child) == ((sys.executable, "-c", WAITS, "a b", "", "ü"), False)


def test_a_long_command_line_is_cut_and_says_so() -> None:
    with waiting("x" * 5000) as pid:
        words, is_cut = proc.argv(pid)

    assert is_cut
    assert sum(len(word) + 1 for word in words) == 4096 + 1


def test_a_program_that_runs_where_it_was_executed(child: int) -> None:
    assert proc.executed_inside(child) == os.path.realpath(sys.executable)


def test_cgroups_by_hierarchy(child: int) -> None:
    assert proc.cgroups(child) == proc.cgroups(os.getpid())


def test_nobodys_pid() -> None:
    assert proc.task(ENDED) is None
    assert proc.argv(ENDED) == ((), False)
    assert proc.mount_namespace(ENDED) == 0
    assert proc.cgroups(ENDED) == {}
    assert proc.executed_inside(ENDED) == ""
    assert not proc.is_first(ENDED)
