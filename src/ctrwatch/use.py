"""
Figures of use in events: of a container by a moment, of its whole life, and of the host.

As event.py's, the types are the format. Units stand in the names; what is null stands in
`missing` with its reason.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ("Bill", "HostFigures", "HostRates", "Pressure", "Rates", "Unread", "Usage")


class Unread(StrEnum):
    """Why a figure of a container's use is not known. The list is closed."""

    NO_CONTROLLER = "no_controller"
    NOT_OFFERED = "not_offered"
    GONE = "gone"
    UNREADABLE = "unreadable"


_Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Amount = Annotated[float, Meta(ge=0, le=1e18)]


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """
    How long a task waited: PSI's "some" (kernel: Documentation/accounting/psi.rst).

    Percents are of the last 10 s, seconds of the whole life (of the host: since the boot).
    """

    cpu_waited_percent: _Amount | None = None
    cpu_waited_seconds: _Amount | None = None
    memory_waited_percent: _Amount | None = None
    memory_waited_seconds: _Amount | None = None
    io_waited_percent: _Amount | None = None
    io_waited_seconds: _Amount | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a container with all its children has used by a moment, from its cgroup.

    Seconds, periods, kills, bytes and operations of I/O are totals since the cgroup was
    made. What is null stands in `missing` with its reason; a limit that is null and does
    not stand there is none.
    """

    cpu_seconds: _Amount | None = None
    cpu_user_seconds: _Amount | None = None
    cpu_system_seconds: _Amount | None = None
    throttled_seconds: _Amount | None = None
    throttled_periods: _Count | None = None
    memory_bytes: _Count | None = None
    memory_working_set_bytes: _Count | None = None
    memory_peak_bytes: _Count | None = None
    memory_limit_bytes: _Count | None = None
    oom_kills: _Count | None = None
    io_read_bytes: _Count | None = None
    io_write_bytes: _Count | None = None
    io_reads: _Count | None = None
    io_writes: _Count | None = None
    pids: _Count | None = None
    pids_limit: _Count | None = None
    pids_refused: _Count | None = None
    pressure: Pressure | None = None
    missing: Annotated[dict[str, Unread], Meta(description="null figure: reason")] = {}


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """The same for a second, between two looks; null where it can't be known."""

    seconds: Annotated[float, Meta(description="between the looks")]
    cpu_cores: Annotated[float | None, Meta(description="CPU seconds a second")] = None
    throttled_share: Annotated[
        float | None, Meta(description="throttled seconds a second; of several CPUs more than 1")
    ] = None
    io_read_bytes_per_second: float | None = None
    io_write_bytes_per_second: float | None = None


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What a container used in its whole life, as it was last read."""

    duration_seconds: Annotated[
        float | None, Meta(description="from its cgroup's birth to its removal; null: not known")
    ] = None
    exit_code: Annotated[
        int | None, Meta(description="of its first process; null: by a signal, or not known")
    ] = None
    exit_signal: Annotated[
        int | None, Meta(description="that ended its first process; null: none, or not known")
    ] = None
    final: Annotated[
        bool, Meta(description="read after its first process had ended: nothing came after")
    ] = False
    read_before_end_seconds: Annotated[
        float | None,
        Meta(description="how long before its removal it was read; null: it was never"),
    ] = None
    cpu_seconds: float | None = None
    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    throttled_seconds: float | None = None
    throttled_periods: int | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    io_reads: int | None = None
    io_writes: int | None = None
    pids_refused: int | None = None
    missing: Annotated[dict[str, Unread], Meta(description="null figure: reason")] = {}


class HostFigures(msgspec.Struct, frozen=True, kw_only=True):
    """
    What all of the host uses, containers or not. Null has its reason in `missing`.

    Seconds and bytes of I/O are totals since the boot; they may go back where a CPU or a disk
    is taken out.
    """

    cpus: Annotated[_Count | None, Meta(description="that are online")] = None
    cpu_seconds: Annotated[
        _Amount | None, Meta(description="CPU time of all CPUs, without idle, I/O wait and steal")
    ] = None
    memory_bytes: Annotated[
        _Count | None, Meta(description="that no program could get: all but what is available")
    ] = None
    memory_total_bytes: Annotated[_Count | None, Meta(description="that the host has")] = None
    io_read_bytes: Annotated[
        _Count | None, Meta(description="read from its disks, partitions and layers not twice")
    ] = None
    io_write_bytes: Annotated[_Count | None, Meta(description="written to them")] = None
    pressure: Pressure | None = None
    missing: Annotated[dict[str, Unread], Meta(description="null figure: reason")] = {}


class HostRates(msgspec.Struct, frozen=True, kw_only=True):
    """The same for a second, since the look before; null where it can't be known."""

    seconds: Annotated[_Amount, Meta(description="between the looks")]
    cpu_cores: Annotated[_Amount | None, Meta(description="CPU seconds a second")] = None
    io_read_bytes_per_second: _Amount | None = None
    io_write_bytes_per_second: _Amount | None = None
