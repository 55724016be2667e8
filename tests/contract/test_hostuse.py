"""What the host uses, as /proc says it, or does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctrwatch.sensor.hostuse import HostUse, HostUseReader

STAT = "cpu  {user} 0 100 900 50 0 0 0 0 0\ncpu0 1 2\ncpu1 1 2\nintr 1 2 3\n"
MEMINFO = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  {left} kB\n"


def written(home: Path, user: int = 0, left: int = 400) -> str:
    (home / "stat").write_text(STAT.format(user=user))
    (home / "meminfo").write_text(MEMINFO.format(left=left))
    return str(home)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_two_looks_have_a_rate(tmp_path: Path) -> None:
    clock = Clock()
    reader = HostUseReader(written(tmp_path), clock)
    assert reader.read() == HostUse(2, None, 1000 << 10, 600 << 10)

    clock.now_s += 2
    written(tmp_path, user=300, left=2000)
    assert reader.read() == HostUse(2, 1.5, 1000 << 10, 0)
    clock.now_s += 0.01  # too soon to tell anything else
    written(tmp_path, user=900)
    assert reader.read().cpu_cores == 1.5


def test_a_counter_that_goes_back(tmp_path: Path) -> None:
    clock = Clock()
    reader = HostUseReader(written(tmp_path, user=500), clock)
    reader.read()
    clock.now_s += 1
    written(tmp_path, user=100)

    assert reader.read().cpu_cores == 0


@pytest.mark.parametrize(
    ("stat", "meminfo"),
    [("", ""), ("cpu  x y\n", "MemTotal: lots kB\n"), ("cpu  \n", "MemAvailable: 1 kB\n")],
    ids=["empty", "no numbers", "half"],
)
def test_what_is_not_said_is_not_known(tmp_path: Path, stat: str, meminfo: str) -> None:
    (tmp_path / "stat").write_text(stat)
    (tmp_path / "meminfo").write_text(meminfo)
    use = HostUseReader(str(tmp_path)).read()

    assert (use.cpus, use.cpu_cores, use.memory_used_bytes) == (None, None, None)


def test_without_proc(tmp_path: Path) -> None:
    assert HostUseReader(str(tmp_path / "none")).read() == HostUse(None, None, None, None)


def test_this_host() -> None:
    use = HostUseReader().read()

    assert use.cpus is not None
    assert use.cpus >= len(os.sched_getaffinity(0))
    assert use.memory_bytes is not None
    assert 0 < (use.memory_used_bytes or 0) < use.memory_bytes
