"""What the host uses, asked for now and then."""

from __future__ import annotations

import os
from pathlib import Path

from ctrwatch.sensor.hostuse import HostLooks

STAT = "cpu  {user} 0 100 900 50 0 0 0 0 0\ncpu0 1 2\ncpu1 1 2\nintr 1 2 3\n"
MEMINFO = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n"
S = 1_000_000_000


def written(home: Path, user: int = 0) -> str:
    (home / "stat").write_text(STAT.format(user=user))
    (home / "meminfo").write_text(MEMINFO)
    return str(home)


class Clock:
    now_ns = 100 * S

    def __call__(self) -> int:
        return self.now_ns


def test_two_looks_have_a_rate(tmp_path: Path) -> None:
    clock = Clock()
    looks = HostLooks(written(tmp_path), clock)
    first = looks.look()
    assert (first.usage.cpus, first.usage.memory_bytes, first.rates) == (2, 600 << 10, None)

    clock.now_ns += 2 * S
    written(tmp_path, user=300)
    second = looks.look()
    assert second.rates is not None
    assert second.rates.cpu_cores == 1.5
    clock.now_ns += S // 100  # too soon to tell anything else
    written(tmp_path, user=900)
    assert looks.look().rates == second.rates


def test_a_counter_that_goes_back_has_no_rate(tmp_path: Path) -> None:
    clock = Clock()
    looks = HostLooks(written(tmp_path, user=500), clock)
    looks.look()
    clock.now_ns += S
    written(tmp_path, user=100)

    rates = looks.look().rates

    assert rates is not None
    assert rates.cpu_cores is None


def test_without_proc(tmp_path: Path) -> None:
    usage = HostLooks(str(tmp_path / "none")).look().usage

    assert (usage.cpus, usage.memory_bytes) == (None, None)
    assert set(usage.missing) >= {"cpus", "memory_bytes"}


def test_this_host() -> None:
    usage = HostLooks().look().usage

    assert usage.cpus is not None
    assert usage.cpus >= len(os.sched_getaffinity(0))
    assert usage.memory_total_bytes is not None
    assert 0 < (usage.memory_bytes or 0) < usage.memory_total_bytes
