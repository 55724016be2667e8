"""
What the whole host uses: CPU and memory, from /proc/stat and /proc/meminfo (proc_stat(5)).

Two small files of the kernel, 30 µs together; what is not in them is None, never an error.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

__all__ = ("HostUse", "HostUseReader")

_FILE_BYTES: Final = 1 << 20  # /proc/stat has a line for each CPU and a number for each interrupt
_TICKS: Final = os.sysconf("SC_CLK_TCK")  # to the second
# user nice system idle iowait irq softirq steal; guests' time is in user's and nice's already.
_CPU: Final = re.compile(rb"^cpu +([0-9 ]+)$", re.MULTILINE)
_CPUS: Final = re.compile(rb"^cpu\d+ ", re.MULTILINE)
_IDLE: Final = frozenset({3, 4})
_COUNTED: Final = 8
_MEMORY: Final = re.compile(rb"^(MemTotal|MemAvailable): +(\d{1,15}) kB$", re.MULTILINE)
_LEAST_S: Final = 0.2  # between two looks; ticks of 10 ms say nothing of less


class HostUse(NamedTuple):
    """None: the kernel does not say, or (`cpu_cores`) there was no earlier look."""

    cpus: int | None  # that are online
    cpu_cores: float | None  # that worked, on average since the look before
    memory_bytes: int | None  # that the kernel has to give
    memory_used_bytes: int | None  # without what it would give back at once


class HostUseReader:
    """Each `read` is compared with the one before."""

    def __init__(
        self, proc: str = "/proc", monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc, self._monotonic_s = proc, monotonic_s
        self._before: tuple[float, float] | None = None  # busy seconds, and when
        self._cores: float | None = None

    def read(self) -> HostUse:
        now_s = self._monotonic_s()
        stat = _read(f"{self._proc}/stat")
        memory = {key: int(kb) << 10 for key, kb in _MEMORY.findall(_read(f"{self._proc}/meminfo"))}
        if (busy_s := _busy_s(stat)) is not None:
            self._compare(busy_s, now_s)
        return HostUse(
            cpus=len(_CPUS.findall(stat)) or None,
            cpu_cores=self._cores,
            memory_bytes=memory.get(b"MemTotal"),
            memory_used_bytes=_used(memory),
        )

    def _compare(self, busy_s: float, now_s: float) -> None:
        if self._before is None:
            self._before = (busy_s, now_s)
            return
        earlier_s, since_s = self._before
        if now_s - since_s >= _LEAST_S:
            # A virtual machine's idle time, and so its busy time, may go back a little.
            self._cores = round(max(0.0, busy_s - earlier_s) / (now_s - since_s), 6)
            self._before = (busy_s, now_s)


def _busy_s(stat: bytes) -> float | None:
    if (line := _CPU.search(stat)) is None:
        return None
    ticks = line[1].split()[:_COUNTED]
    return sum(int(word) for at, word in enumerate(ticks) if at not in _IDLE) / _TICKS


def _used(memory: Mapping[bytes, int]) -> int | None:
    total, available = memory.get(b"MemTotal"), memory.get(b"MemAvailable")
    return None if total is None or available is None else max(0, total - available)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_BYTES)
    except OSError:
        return b""  # /proc is not mounted, or hidden
