"""
What the host uses: its files to figures, figures to events, and when to look. Pure.

The files are the kernel's (Documentation/filesystems/proc.rst, "1.7 Miscellaneous kernel
statistics", "meminfo"; Documentation/admin-guide/iostats.rst; Documentation/accounting/psi.rst).
One that can't be read is an `Unread`, never an error, and a number of more than 63 bits none.

/proc/diskstats counts what is written to a file once for its partition, once for each layer
below (dm, md, loop) and once for the disk: only disks count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ctrwatch.core.describe import rfc3339
from ctrwatch.core.ids import stable_id
from ctrwatch.core.usage import PRESSURES, per_second, pressure
from ctrwatch.event import HostFigures, HostRates, HostUsage, Unread

__all__ = ("FILES", "HostBeat", "HostSampled", "figures", "host_rates", "host_usage")

# In /proc.
FILES: Final = (
    *("stat", "meminfo", "diskstats"),
    *(f"pressure/{what}" for what in PRESSURES),
)
_SECOND: Final = 1_000_000_000
_BEAT_NS: Final = 10 * _SECOND  # while somebody is young: what a birth did to the host shows
_YOUNG_NS: Final = 300 * _SECOND
_LEAST_NS: Final = _SECOND  # a storm of births costs a look a second
_TICKS: Final = 100  # USER_HZ, as core/usage.py has it
_SECTOR: Final = 512  # bytes, whatever the disk's own are
_KB: Final = 1024
_MOST: Final = (1 << 63) - 1
_CPUS: Final = re.compile(rb"^cpu\d+ ", re.MULTILINE)
# user, nice, system, idle, iowait, irq, softirq; guests are in user and nice already.
_CPU: Final = re.compile(
    rb"^cpu +(\d{1,19}) (\d{1,19}) (\d{1,19}) \d+ \d+ (\d{1,19}) (\d{1,19})\b", re.MULTILINE
)
_MEMORY: Final = {
    name: re.compile(rb"^" + name + rb": +(\d{1,16}) kB$", re.MULTILINE)
    for name in (b"MemTotal", b"MemAvailable")
}
# Name, sectors read, sectors written.
_DISK: Final = re.compile(
    rb"^ *\d+ +\d+ (\S+) \d+ \d+ (\d{1,19}) \d+ \d+ \d+ (\d{1,19}) ", re.MULTILINE
)
_NO_DISK: Final = re.compile(
    rb"(loop|ram|zram|dm-|md|sr|fd|drbd|bcache|nbd|rbd|zd)\d+|nvme\d+c\d+n\d+"
)
_PARTITION: Final = re.compile(rb"(.*?\D)(\d+)")


class HostSampled(msgspec.Struct, frozen=True, kw_only=True, tag="host_sampled"):
    """What the host used when it was looked at."""

    boot_ns: int
    usage: HostFigures


# --- files to figures ---------------------------------------------------------------------


class _Absent(Exception):  # noqa: N818 - it is no error
    """The file is there, but this kernel does not write that line, or has no such thing."""


def figures(texts: Mapping[str, bytes | Unread]) -> HostFigures:
    """
    *texts*: of `FILES`.

    >>> said = figures({"meminfo": b"MemTotal: 8 kB\\nMemAvailable: 5 kB\\n"})
    >>> said.memory_bytes, said.missing["cpus"].value
    (3072, 'not_offered')
    """
    known: dict[str, Any] = {}
    missing: dict[str, Unread] = {}
    for name, (file, parse) in _FIGURES.items():
        raw = texts.get(file, Unread.NOT_OFFERED)
        value = raw if isinstance(raw, Unread) else _parsed(parse, raw)
        if isinstance(value, Unread):
            missing[name] = value
        else:
            known[name] = value
    known["pressure"] = pressure(
        {what: texts.get(f"pressure/{what}", Unread.NOT_OFFERED) for what in PRESSURES}, missing
    )
    return HostFigures(**known, missing=missing)


def _parsed(parse: Callable[[bytes], int | float], raw: bytes) -> int | float | Unread:
    try:
        value = parse(raw)
    except _Absent:
        return Unread.NOT_OFFERED
    return value if value <= _MOST else Unread.UNREADABLE


def _cpus(raw: bytes) -> int:
    return len(_CPUS.findall(raw)) or _none()


def _cpu_seconds(raw: bytes) -> float:
    found = _CPU.search(raw)
    return sum(map(int, found.groups())) / _TICKS if found else _none()


def _total(raw: bytes) -> int:
    found = _MEMORY[b"MemTotal"].search(raw)
    return int(found[1]) * _KB if found else _none()


def _used(raw: bytes) -> int:
    available = _MEMORY[b"MemAvailable"].search(raw)  # since Linux 3.14
    return max(0, _total(raw) - int(available[1]) * _KB) if available else _none()


def _io(group: int) -> Callable[[bytes], int]:
    def parse(raw: bytes) -> int:
        found = _DISK.findall(raw)
        names = {name for name, *_ in found}
        sectors = [int(disk[group]) for disk in found if _is_disk(disk[0], names)]
        return sum(sectors) * _SECTOR if sectors else _none()

    return parse


def _none() -> Any:
    raise _Absent


def _is_disk(name: bytes, names: set[bytes]) -> bool:
    """
    >>> [_is_disk(name, {b"sda", b"nvme0n1"}) for name in (b"sda", b"sda1", b"nvme0n1p2", b"dm-0")]
    [True, False, False, False]
    """
    if _NO_DISK.fullmatch(name):
        return False
    part = _PARTITION.fullmatch(name)
    if part is None:
        return True
    whole = part[1]
    return not (whole in names or (whole.endswith(b"p") and whole[:-1] in names))


_FIGURES: Final[dict[str, tuple[str, Callable[[bytes], int | float]]]] = {
    "cpus": ("stat", _cpus),
    "cpu_seconds": ("stat", _cpu_seconds),
    "memory_bytes": ("meminfo", _used),
    "memory_total_bytes": ("meminfo", _total),
    "io_read_bytes": ("diskstats", _io(1)),
    "io_write_bytes": ("diskstats", _io(2)),
}


# --- figures to events --------------------------------------------------------------------


def host_rates(before: HostSampled | None, now: HostSampled) -> HostRates | None:
    """
    None where nothing was before, no time has passed, or the clock went back; a rate is None
    where its counter is not known or went back.
    """
    if before is None or now.boot_ns <= before.boot_ns:
        return None
    seconds = (now.boot_ns - before.boot_ns) / _SECOND

    def of(name: str) -> float | None:
        return per_second(getattr(before.usage, name), getattr(now.usage, name), seconds)

    return HostRates(
        seconds=round(seconds, 3),
        cpu_cores=of("cpu_seconds"),
        io_read_bytes_per_second=of("io_read_bytes"),
        io_write_bytes_per_second=of("io_write_bytes"),
    )


def host_usage(
    before: HostSampled | None, now: HostSampled, host: str, boot_id: str, wall_offset_ns: int
) -> HostUsage:
    return HostUsage(
        id=stable_id(boot_id, "host_usage", now.boot_ns),
        time=rfc3339(now.boot_ns + wall_offset_ns),
        host=host,
        usage=now.usage,
        rates=host_rates(before, now),
    )


# --- when to look -------------------------------------------------------------------------


class HostBeat:
    """
    At each birth and each end, every ten seconds while a container of less than five minutes
    lives, then at *settled_ns*; not at all while none lives. At most once a second.

    What the host used while a container lived is what it had used at its end, less at its birth.
    """

    def __init__(self, settled_ns: int) -> None:
        self._settled_ns = settled_ns
        self._living: set[int] = set()
        self._young: dict[int, int] = {}  # serial: birth, oldest first; of five minutes
        self._last_ns: int | None = None  # of the last look

    def born(self, serial: int, born_ns: int, now_ns: int) -> int:
        """When to look next, now that it is there; the same below."""
        self._living.add(serial)
        if now_ns - born_ns < _YOUNG_NS:
            self._young[serial] = born_ns
        return self._soon_ns(now_ns)

    def gone(self, serial: int, now_ns: int) -> int | None:
        if serial not in self._living:
            return self.next_ns(now_ns)
        self._living.discard(serial)
        self._young.pop(serial, None)
        return self._soon_ns(now_ns)

    def looked(self, now_ns: int) -> int | None:
        self._last_ns = now_ns
        return self.next_ns(now_ns)

    def next_ns(self, now_ns: int) -> int | None:
        """None: nobody lives."""
        if not self._living:
            return None
        while self._young and now_ns - next(iter(self._young.values())) >= _YOUNG_NS:
            del self._young[next(iter(self._young))]
        beat_ns = min(_BEAT_NS, self._settled_ns) if self._young else self._settled_ns
        return now_ns if self._last_ns is None else max(now_ns, self._last_ns + beat_ns)

    def _soon_ns(self, now_ns: int) -> int:
        return now_ns if self._last_ns is None else max(now_ns, self._last_ns + _LEAST_NS)
