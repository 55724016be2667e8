"""
The files of a container's cgroups to what it uses. Pure: bytes in, values out.

One table says which file has which figure. Cgroup v1 (kernel: Documentation/admin-guide/
cgroup-v1/{cpuacct,memory,blkio-controller,pids}.rst; the CPU controller's throttling is in
Documentation/scheduler/sched-bwc.rst) comes first: where both versions are mounted, the
controllers are v1's. Then cgroup v2 (Documentation/admin-guide/cgroup-v2.rst, "Controllers").
All of them are of the container with its children, but for throttling, which is that of its
own limit, and v1's OOM kills, which the reader adds up (sensor/usage.py).

A file that can't be read is an `Unread`, never an error. What files say is checked: digits,
and no more than 63 bits, which is what others can read as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ctrwatch.event import Pressure, Rates, Unread, Usage

__all__ = (
    "CONTROLLERS",
    "FILES",
    "PRESSURES",
    "TOTALS",
    "Texts",
    "later",
    "per_second",
    "pressure",
    "rates",
    "share",
    "usage",
)

# (cgroup version, file) to what is in it.
Texts = Mapping[tuple[int, str], bytes | Unread]

_TICKS: Final = 100  # USER_HZ: of all architectures but Alpha and IA-64, which is no more
# v1 has no word for "no limit", but the most that it can count: LONG_MAX in whole pages.
_NO_LIMIT: Final = (1 << 63) - (1 << 16)
_MOST: Final = (
    1 << 63
) - 1  # the kernel counts in 64 bits; half of them is 292 years of nanoseconds
_SOME: Final = re.compile(rb"^some avg10=(\d{1,3}\.\d{2}) .*total=(\d{1,20})$", re.MULTILINE)
_IO_V1: Final = {
    b"Read": re.compile(rb"^\S+ Read (\S+)$", re.MULTILINE),
    b"Write": re.compile(rb"^\S+ Write (\S+)$", re.MULTILINE),
}
_IO_V2: Final = {
    word: re.compile(rb"[ =]" + word + rb"=(\S*)")
    for word in (b"rbytes", b"wbytes", b"rios", b"wios")
}


class _Absent(Exception):  # noqa: N818 - it is no error
    """The file is there, but this kernel does not write that line."""


_Parse = Callable[[bytes], Any]


def _number(word: bytes) -> int:
    word = word.strip()
    if not word.isdigit() or len(word) > 20 or (number := int(word)) > _MOST:
        raise ValueError(word[:20])
    return number


def _line(key: bytes) -> Callable[[bytes], int]:
    """The number behind *key*, in a flat keyed file."""
    before = b"\n" + key + b" "

    def parse(raw: bytes) -> int:
        at = (b"\n" + raw).find(before)
        if at < 0:
            raise _Absent
        return _number(raw[at + len(key) + 1 :].partition(b"\n")[0])

    return parse


def _over(units: int, parse: Callable[[bytes], int] = _number) -> Callable[[bytes], float]:
    """Seconds of so many *units* to the second."""
    return lambda raw: parse(raw) / units


def _limit(raw: bytes) -> int | None:
    """None: there is no limit."""
    if raw.strip() == b"max":
        return None
    number = _number(raw)
    return None if number >= _NO_LIMIT else number


def _summed(pattern: re.Pattern[bytes]) -> Callable[[bytes], int]:
    """Over all devices."""

    def parse(raw: bytes) -> int:
        total = sum(map(_number, pattern.findall(raw)))
        if total > _MOST:
            raise ValueError(total)
        return total

    return parse


class _Place(NamedTuple):
    version: int
    file: str
    parse: _Parse


# The first place that tells is believed.
_FIGURES: Final[dict[str, tuple[_Place, ...]]] = {
    "cpu_seconds": (
        _Place(1, "cpuacct.usage", _over(10**9)),
        _Place(2, "cpu.stat", _over(10**6, _line(b"usage_usec"))),
    ),
    "cpu_user_seconds": (
        _Place(1, "cpuacct.stat", _over(_TICKS, _line(b"user"))),
        _Place(2, "cpu.stat", _over(10**6, _line(b"user_usec"))),
    ),
    "cpu_system_seconds": (
        _Place(1, "cpuacct.stat", _over(_TICKS, _line(b"system"))),
        _Place(2, "cpu.stat", _over(10**6, _line(b"system_usec"))),
    ),
    "throttled_seconds": (
        _Place(1, "cpu.stat", _over(10**9, _line(b"throttled_time"))),
        _Place(2, "cpu.stat", _over(10**6, _line(b"throttled_usec"))),
    ),
    "throttled_periods": (
        _Place(1, "cpu.stat", _line(b"nr_throttled")),
        _Place(2, "cpu.stat", _line(b"nr_throttled")),
    ),
    "memory_bytes": (
        _Place(1, "memory.usage_in_bytes", _number),
        _Place(2, "memory.current", _number),
    ),
    "memory_peak_bytes": (
        _Place(1, "memory.max_usage_in_bytes", _number),
        _Place(2, "memory.peak", _number),  # since Linux 5.19
    ),
    "memory_limit_bytes": (
        _Place(1, "memory.limit_in_bytes", _limit),
        _Place(2, "memory.max", _limit),
    ),
    "oom_kills": (
        _Place(1, "memory.oom_control", _line(b"oom_kill")),  # since Linux 4.13
        _Place(2, "memory.events", _line(b"oom_kill")),
    ),
    "io_read_bytes": (
        _Place(1, "blkio.throttle.io_service_bytes_recursive", _summed(_IO_V1[b"Read"])),
        _Place(2, "io.stat", _summed(_IO_V2[b"rbytes"])),
    ),
    "io_write_bytes": (
        _Place(1, "blkio.throttle.io_service_bytes_recursive", _summed(_IO_V1[b"Write"])),
        _Place(2, "io.stat", _summed(_IO_V2[b"wbytes"])),
    ),
    "io_reads": (
        _Place(1, "blkio.throttle.io_serviced_recursive", _summed(_IO_V1[b"Read"])),
        _Place(2, "io.stat", _summed(_IO_V2[b"rios"])),
    ),
    "io_writes": (
        _Place(1, "blkio.throttle.io_serviced_recursive", _summed(_IO_V1[b"Write"])),
        _Place(2, "io.stat", _summed(_IO_V2[b"wios"])),
    ),
    "pids": (_Place(1, "pids.current", _number), _Place(2, "pids.current", _number)),
    "pids_limit": (_Place(1, "pids.max", _limit), _Place(2, "pids.max", _limit)),
    "pids_refused": (
        _Place(1, "pids.events", _line(b"max")),
        _Place(2, "pids.events", _line(b"max")),
    ),
}
# What docker and kubectl call used: without the file cache that the kernel would drop first.
_CACHE: Final = (
    _Place(1, "memory.stat", _line(b"total_inactive_file")),
    _Place(2, "memory.stat", _line(b"inactive_file")),
)
PRESSURES: Final = ("cpu", "memory", "io")
_THROTTLING: Final = ("throttled_seconds", "throttled_periods")

# They only grow, whatever happens in the container.
TOTALS: Final = (
    *("cpu_seconds", "cpu_user_seconds", "cpu_system_seconds", *_THROTTLING),
    *("memory_peak_bytes", "oom_kills"),
    *("io_read_bytes", "io_write_bytes", "io_reads", "io_writes", "pids_refused"),
)
# First what the bill of a life is made of: a last look may come just in time for that.
_ALL: Final = [
    *(place for name in TOTALS for place in _FIGURES[name]),
    *(place for places in (*_FIGURES.values(), _CACHE) for place in places),
]
# Of each cgroup version, the files that are read, in this order.
FILES: Final[Mapping[int, tuple[str, ...]]] = {
    1: tuple(dict.fromkeys(place.file for place in _ALL if place.version == 1)),
    2: tuple(
        dict.fromkeys(
            [
                *(place.file for place in _ALL if place.version == 2),
                *(f"{what}.pressure" for what in PRESSURES),
            ]
        )
    ),
}
# v1's hierarchies that have any of them.
CONTROLLERS: Final = frozenset(file.partition(".")[0] for file in FILES[1])
_WORST: Final = (Unread.GONE, Unread.UNREADABLE, Unread.NOT_OFFERED, Unread.NO_CONTROLLER)


def usage(texts: Texts) -> Usage:
    """
    What the files say; what they don't is null, and in `missing`.

    >>> said = usage({(2, "cpu.stat"): b"usage_usec 1500000\\n", (2, "pids.max"): b"max\\n"})
    >>> said.cpu_seconds, said.pids_limit, said.missing["throttled_periods"].value
    (1.5, None, 'no_controller')
    """
    known: dict[str, Any] = {}
    missing: dict[str, Unread] = {}
    for name, places in _FIGURES.items():
        _take(name, places, texts, known, missing)
    for name in _THROTTLING:  # v2's cpu.stat is there without the controller, but without these
        if missing.get(name) is Unread.NOT_OFFERED:
            missing[name] = Unread.NO_CONTROLLER
    _working_set(texts, known, missing)
    stalls = {what: texts.get((2, f"{what}.pressure"), Unread.NOT_OFFERED) for what in PRESSURES}
    known["pressure"] = pressure(stalls, missing)
    return Usage(**known, missing=missing)


def _take(
    name: str,
    places: tuple[_Place, ...],
    texts: Texts,
    known: dict[str, Any],
    missing: dict[str, Unread],
) -> None:
    reasons = []
    for place in places:
        value = _told(place, texts)
        if not isinstance(value, Unread):
            known[name] = value
            return
        reasons.append(value)
    missing[name] = min(reasons, key=_WORST.index)


def _told(place: _Place, texts: Texts) -> Any:
    raw = texts.get((place.version, place.file), Unread.NO_CONTROLLER)
    if raw is Unread.NOT_OFFERED and _is_off(place, texts):
        return Unread.NO_CONTROLLER
    if isinstance(raw, Unread):
        return raw
    try:
        return place.parse(raw)
    except _Absent:
        return Unread.NOT_OFFERED
    except ValueError:
        return Unread.UNREADABLE


def _is_off(place: _Place, texts: Texts) -> bool:
    """
    Not one of the controller's files is there. v1's has no directory there, then, and is not
    among the *texts*.
    """
    if place.version == 1:
        return False
    controller = place.file.partition(".")[0] + "."
    return all(
        text is Unread.NOT_OFFERED
        for (version, file), text in texts.items()
        if version == place.version and file.startswith(controller) and "pressure" not in file
    )


def _working_set(texts: Texts, known: dict[str, Any], missing: dict[str, Unread]) -> None:
    name, used = "memory_working_set_bytes", known.get("memory_bytes")
    if used is None:
        missing[name] = missing["memory_bytes"]
        return
    _take(name, _CACHE, texts, known, missing)
    if name in known:  # two files, read one after the other
        known[name] = max(0, used - known[name])


def pressure(texts: Mapping[str, bytes | Unread], missing: dict[str, Unread]) -> Pressure | None:
    """Of each of `PRESSURES` its file; what none says goes to *missing*."""
    said: dict[str, float] = {}
    reasons: dict[str, Unread] = {}
    for what in PRESSURES:
        raw = texts[what]
        some = _SOME.search(raw) if isinstance(raw, bytes) else None
        if some is not None and int(some[2]) <= _MOST:
            said[f"{what}_waited_percent"] = float(some[1])
            said[f"{what}_waited_seconds"] = int(some[2]) / 10**6
        else:
            reasons[f"pressure.{what}"] = raw if isinstance(raw, Unread) else Unread.UNREADABLE
    if said:
        missing.update(reasons)
        return Pressure(**said)
    missing["pressure"] = min(reasons.values(), key=_WORST.index)
    return None


# --- one look after the other -------------------------------------------------------------


def later(before: Usage, now: Usage) -> Usage:
    """
    What is known after both looks: the later one's word, if it has one.

    A cgroup that has gone says nothing new: why a figure was missing before still holds.
    Totals don't go back: who resets a counter (v1's `echo 0 > cpuacct.usage`) hides nothing
    of what was read before.
    """
    if not now.missing and not any(_is_less(now, before, name) for name in TOTALS):
        return now
    fields: dict[str, Any] = {}
    missing: dict[str, Unread] = {}
    for name in _NAMES:
        value, old = getattr(now, name), getattr(before, name)
        if name in now.missing:
            value = old
            if name in before.missing:
                was, why = before.missing[name], now.missing[name]
                missing[name] = was if why is Unread.GONE else why
        elif name in TOTALS and value is not None and old is not None:
            value = max(value, old)
        fields[name] = value
    if now.pressure is not None:
        missing |= {name: now.missing[name] for name in now.missing if name.startswith("pressure.")}
    return Usage(**fields, missing=missing)


def _is_less(now: Usage, before: Usage, name: str) -> bool:
    old, new = getattr(before, name), getattr(now, name)
    return old is not None and (new is None or new < old)


_NAMES: Final = tuple(name for name in Usage.__struct_fields__ if name != "missing")


def rates(before: Usage | None, now: Usage, seconds: float) -> Rates | None:
    """
    For a second, from *before* (None: from the cgroup's birth, when all was 0) to *now*.

    None where no time has passed, or the clock went back; a rate is None where its counter
    is not known or went back.
    """
    if seconds <= 0:
        return None

    def of(name: str) -> float | None:
        return per_second(
            0 if before is None else getattr(before, name), getattr(now, name), seconds
        )

    return Rates(
        seconds=round(seconds, 3),
        cpu_cores=of("cpu_seconds"),
        throttled_share=of("throttled_seconds"),
        io_read_bytes_per_second=of("io_read_bytes"),
        io_write_bytes_per_second=of("io_write_bytes"),
    )


def per_second(old: float | None, new: float | None, seconds: float) -> float | None:
    """Of a counter; None where it is not known, or went back."""
    if old is None or new is None or new < old:
        return None
    return round((new - old) / seconds, 6)


def share(used: float | None, limit: float | None) -> float | None:
    """
    Of its limit; None where there is none, or one of both is not known. All of a limit of zero.

    >>> share(32, 64), share(5, 0), share(5, None)
    (0.5, 1.0, None)
    """
    if used is None or limit is None:
        return None
    return used / limit if limit > 0 else 1.0
