"""What a container uses, and what the host does, in a sentence. Pure."""

from __future__ import annotations

from typing import Final

from ctrwatch.core.text import clean, short_id
from ctrwatch.event import Bill, ContainerUsage, HostUsage, Unread, Usage

__all__ = ("percent", "said_of_bill", "said_of_figures", "said_of_host", "said_of_usage", "size")

_UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")
_K: Final = 1024


def said_of_usage(event: ContainerUsage) -> str:
    names = (clean(event.container_name, 24), clean(event.container_image, 40))
    known = "  ".join(filter(None, names)) or "-"
    who = f"{event.runtime} {short_id(event.container_id)}"
    return f"{who}{said_of_figures(event)}  ({known})"


def said_of_figures(event: ContainerUsage) -> str:
    """The same without who it is."""
    age = "" if event.age_seconds is None else f" after {event.age_seconds:.0f} s"
    if event.event == "container_oom":
        tasks = "a process" if event.kills == 1 else f"{event.kills} processes"
        age = f"{age}, {tasks} killed for want of memory"
    cores = event.rates.cpu_cores if event.rates is not None else None
    used = [] if cores is None else [f"{cores:.2f} cores"]
    return f"{age}: {', '.join(used + _now(event.usage)) or 'nothing is known'}"


def _now(usage: Usage) -> list[str]:
    said = []
    if usage.memory_bytes is not None:
        of = "" if usage.memory_limit_bytes is None else f" of {size(usage.memory_limit_bytes)}"
        said.append(f"memory {size(usage.memory_bytes)}{of}")
    if usage.io_read_bytes or usage.io_write_bytes:
        said.append(f"I/O {size(usage.io_read_bytes or 0)} + {size(usage.io_write_bytes or 0)}")
    if usage.pids is not None:
        of = "" if usage.pids_limit is None else f" of {usage.pids_limit}"
        said.append(f"{usage.pids}{of} tasks")
    if usage.throttled_seconds:
        said.append(f"throttled {usage.throttled_seconds:.1f} s")
    return said


def said_of_bill(bill: Bill) -> str:
    said = [] if bill.duration_seconds is None else [f"lived {bill.duration_seconds:.1f} s"]
    if bill.cpu_seconds is not None:
        said.append(f"CPU {bill.cpu_seconds:.2f} s")
    if bill.memory_peak_bytes is not None:
        said.append(f"peak {size(bill.memory_peak_bytes)}")
    if bill.io_read_bytes or bill.io_write_bytes:
        said.append(f"I/O {size(bill.io_read_bytes or 0)} + {size(bill.io_write_bytes or 0)}")
    if bill.oom_kills:
        said.append(f"OOM kills {bill.oom_kills}")
    if bill.exit_signal is not None:
        said.append(f"signal {bill.exit_signal}")
    elif bill.exit_code is not None:
        said.append(f"exit {bill.exit_code}")
    if Unread.GONE in bill.missing.values():
        said.append("gone before it could be read")
    return ", ".join(said)


def said_of_host(event: HostUsage) -> str:
    usage, rates = event.usage, event.rates
    said = []
    if rates is not None and rates.cpu_cores is not None:
        of = "" if usage.cpus is None else f" of {usage.cpus}"
        said.append(f"{rates.cpu_cores:.2f}{of} cores for {rates.seconds:.0f} s")
    if usage.memory_bytes is not None and usage.memory_total_bytes is not None:
        said.append(f"memory {size(usage.memory_bytes)} of {size(usage.memory_total_bytes)}")
    if rates is not None and (rates.io_read_bytes_per_second or rates.io_write_bytes_per_second):
        read, wrote = rates.io_read_bytes_per_second, rates.io_write_bytes_per_second
        said.append(f"I/O {size(int(read or 0))} + {size(int(wrote or 0))} a second")
    return f"all of the host: {', '.join(said) or 'nothing is known'}"


def percent(part: float) -> str:
    """
    >>> percent(0.1234), percent(0.00001), percent(0)
    ('12.3 %', '<0.1 %', '0.0 %')
    """
    return "<0.1 %" if 0 < part < 0.0005 else f"{part * 100:.1f} %"


def size(number: int) -> str:
    """
    As people read it; of 1,024.

    >>> size(512), size(9437184), size(1 << 34)
    ('512 B', '9.0 MB', '16.0 GB')
    """
    amount, unit = float(number), 0
    while amount >= _K and unit < len(_UNITS) - 1:
        amount, unit = amount / _K, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{number} B"
