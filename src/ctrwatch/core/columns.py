"""
The columns of the live table: what each shows of a row, by what it sorts, who fits a width. Pure.

One table. A column that is not known (yet) shows "-" and sorts last, whichever way. Of a width
the columns get as many as fit, by rank, each its least; what is left goes to those that want
more. Strangers' text is escaped here, and cut by the cells that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from ctrwatch.core.board import MINUTE, Row
from ctrwatch.core.fitting import cell_len, fitted, harmless
from ctrwatch.core.text import short_id
from ctrwatch.core.usage import share
from ctrwatch.event import Bill

__all__ = (
    "COLUMNS",
    "GAP",
    "Column",
    "Layout",
    "amount",
    "cells",
    "column",
    "fit",
    "killed",
    "said_of_end",
    "view",
)

GAP: Final = 1  # cells between two columns
_NOTHING: Final = "-"
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_WHOLE_CORES: Final = 1.0  # the spark's full height, or the row's most, if that is more
_LIMIT: Final = 256  # characters of a stranger's word
_KILLED_NS: Final = 10_000_000_000  # so long a kill for want of memory is shown
_UNITS: Final = "BKMGTP"
_K: Final = 1024
_MOST_PERCENT: Final = 99  # of two digits


class Column(NamedTuple):
    """*least* and *most*: cells. *rank*: who goes first where there is no room goes last."""

    key: str
    title: str
    least: int
    most: int
    rank: int
    shown: Callable[[Row, int, int], str]  # row, now (boot clock), width
    value: Callable[[Row, int], Any]  # to sort by; None: not known
    down: bool = True  # the most first, as it is asked for first
    right: bool = True


def amount(number: float | None) -> str:
    """
    Bytes in at most five cells, of 1,024.

    >>> [amount(number) for number in (None, 0, 999, 1023, 9 << 20, 1023 << 20, 16 << 30)]
    ['-', '0', '999', '1023', '9.0M', '1023M', '16G']
    """
    if number is None:
        return _NOTHING
    size, unit = float(number), 0
    while round(size) >= _K and unit < len(_UNITS) - 1:
        size, unit = size / _K, unit + 1
    if not unit:
        return f"{size:.0f}"
    shown = f"{size:.1f}" if size < 9.95 else f"{size:.0f}"
    return shown + _UNITS[unit] if size < 10 * _K else "huge"


def age(seconds: float | None) -> str:
    """
    In at most four cells, but for those of 28 years.

    >>> [age(seconds) for seconds in (None, 0, 99, 100, 5999, 6000, 172799, 172800, 8.64e6)]
    ['-', '0s', '99s', '1m', '99m', '1h', '47h', '2d', '100d']
    """
    if seconds is None:
        return _NOTHING
    for size, unit, most in ((1, "s", 100), (60, "m", 100), (3600, "h", 48)):
        if seconds < most * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 86400)}d"


def _cores(row: Row) -> float | None:
    return row.rates.cpu_cores if row.rates is not None else None


def cores(number: float | None) -> str:
    """
    In at most five cells.

    >>> cores(None), cores(0.004), cores(99.996), cores(128.3), cores(999.96)
    ('-', '0.00', '100.0', '128.3', '1000')
    """
    if number is None:
        return _NOTHING
    digits = 2 if number < 99.995 else 1 if number < 999.95 else 0
    return f"{number:.{digits}f}"


def _figure(row: Row, name: str) -> Any:
    return getattr(row.usage, name) if row.usage is not None else None


def _of_limit(row: Row, _: int) -> float | None:
    return share(_figure(row, "memory_bytes"), _figure(row, "memory_limit_bytes"))


def _percent(part: float | None) -> str:
    return _NOTHING if part is None else f"{min(999, part * 100):.0f}%"


def _io(row: Row, *names: str) -> float | None:
    rates = row.rates
    known = [getattr(rates, f"io_{name}_bytes_per_second") for name in names] if rates else []
    numbers = [number for number in known if number is not None]
    return sum(numbers) if numbers else None


def _pressures(row: Row) -> list[tuple[float, str]]:
    if row.usage is None or (said := row.usage.pressure) is None:
        return []
    percents = (
        (said.cpu_waited_percent, "cpu"),
        (said.memory_waited_percent, "mem"),
        (said.io_waited_percent, "io"),
    )
    return [(percent, what) for percent, what in percents if percent is not None]


def killed(row: Row, now_ns: int) -> bool:
    """A process of it was, a moment ago, for want of memory."""
    return row.killed_ns is not None and now_ns - row.killed_ns < _KILLED_NS


def _pressure(row: Row, now_ns: int, _: int) -> str:
    """The worst of the three, and which it is."""
    if killed(row, now_ns):
        return "OOM"
    if not (said := _pressures(row)):
        return _NOTHING
    percent, what = max(said, key=lambda one: one[0])
    return "0" if percent < 1 else f"{min(percent, _MOST_PERCENT):.0f}%{what}"


def _pressure_value(row: Row, now_ns: int) -> float | None:
    percents = [percent for percent, _ in _pressures(row)]
    return float("inf") if killed(row, now_ns) else max(percents, default=None)


def spark(row: Row, _: int, width: int) -> str:
    """
    The CPU of each second of the first minute; a blank: nobody looked, or it is to come.

    A cell that has several seconds shows their most.
    """
    if row.minute is None or width < 1:
        return ""
    full = max([_WHOLE_CORES, *(cores for cores in row.minute if cores >= 0)])
    per_cell = max(1, -(-MINUTE // width))
    line = ""
    for at in range(0, MINUTE, per_cell):
        seconds = [cores for cores in row.minute[at : at + per_cell] if cores >= 0]
        top = min(len(_LEVELS) - 1, int(max(seconds, default=0) / full * len(_LEVELS)))
        line += _LEVELS[top] if seconds else " "
    return line.rstrip()


def _first_minute(row: Row, _: int) -> float | None:
    """Core seconds in it, of what was looked at."""
    return None if row.minute is None else sum(cores for cores in row.minute if cores >= 0)


def _word(name: str) -> Callable[[Row, int, int], str]:
    return lambda row, _, __: harmless(getattr(row, name), _LIMIT) or _NOTHING


def _text(name: str) -> Callable[[Row, int], str | None]:
    return lambda row, _: getattr(row, name).casefold() or None


def _image(row: Row, _: int, width: int) -> str:
    """Where there is no room for all of it, what tells most: docker's short form, or the last part."""
    whole = harmless(row.image, _LIMIT) or _NOTHING
    short = whole.removeprefix("docker.io/").removeprefix("library/")
    last = whole.rpartition("/")[2]
    return next((each for each in (whole, short, f"…/{last}") if cell_len(each) <= width), last)


def _sizes(name: str) -> tuple[Callable[[Row, int, int], str], Callable[[Row, int], Any]]:
    return lambda row, _, __: amount(_figure(row, name)), lambda row, _: _figure(row, name)


def _speeds(*names: str) -> tuple[Callable[[Row, int, int], str], Callable[[Row, int], Any]]:
    return lambda row, _, __: amount(_io(row, *names)), lambda row, _: _io(row, *names)


_RUNTIME = (_word("runtime"), _text("runtime"))
COLUMNS: Final = (
    Column(
        "age",
        "AGE",
        4,
        4,
        2,
        lambda row, now_ns, _: age(row.age_s(now_ns)),
        lambda row, now_ns: row.age_s(now_ns),
        down=False,
    ),
    Column("runtime", "RUNTIME", 7, 10, 9, *_RUNTIME, down=False, right=False),
    Column("name", "NAME", 10, 30, 0, _word("name"), _text("name"), down=False, right=False),
    Column("image", "IMAGE", 9, 60, 8, _image, _text("image"), down=False, right=False),
    Column("pod", "POD", 14, 30, 11, _word("pod"), _text("pod"), down=False, right=False),
    Column(
        "cpu", "CPU", 5, 5, 1, lambda row, _, __: cores(_cores(row)), lambda row, _: _cores(row)
    ),
    Column("memory", "MEM", 5, 5, 3, *_sizes("memory_bytes")),
    Column("limit", "%LIM", 4, 4, 4, lambda row, n, _: _percent(_of_limit(row, n)), _of_limit),
    Column("io", "I/O", 5, 5, 5, *_speeds("read", "write")),
    Column("read", "READ", 5, 5, 14, *_speeds("read")),
    Column("write", "WRITE", 5, 5, 15, *_speeds("write")),
    Column(
        "tasks",
        "TASKS",
        5,
        5,
        7,
        lambda row, _, __: _NOTHING if (n := _figure(row, "pids")) is None else str(n),
        lambda row, _: _figure(row, "pids"),
    ),
    Column("pressure", "PSI", 6, 6, 6, _pressure, _pressure_value),
    Column("minute", "1ST MIN", 7, 30, 10, spark, _first_minute, right=False),
    Column(
        "id",
        "ID",
        12,
        12,
        13,
        lambda row, _, __: short_id(row.container_id),
        _text("container_id"),
        down=False,
        right=False,
    ),
)
_BY_KEY: Final = {each.key: each for each in COLUMNS}
_FIGURES: Final = frozenset(
    {"cpu", "memory", "limit", "io", "read", "write", "tasks", "pressure", "minute"}
)


def column(key: str) -> Column:
    return _BY_KEY[key]


class Layout(NamedTuple):
    """Columns with their widths, from left to right."""

    columns: tuple[tuple[Column, int], ...]

    @property
    def width(self) -> int:
        return sum(width for _, width in self.columns) + GAP * max(0, len(self.columns) - 1)


def fit(width: int, without: Iterable[str] = ()) -> Layout:
    """
    Who fits *width* cells; *without*: columns that would be empty.

    >>> [column.key for column, _ in fit(30).columns]
    ['age', 'name', 'cpu', 'memory']
    """
    left_out = frozenset(without)
    wanted = sorted((each for each in COLUMNS if each.key not in left_out), key=lambda c: c.rank)
    widths: dict[str, int] = {}
    room = width + GAP
    for each in wanted:
        if room < each.least + GAP:
            break
        widths[each.key], room = each.least, room - each.least - GAP
    while room > 0:
        growing = [each for each in wanted if 0 < widths.get(each.key, 0) < each.most]
        if not growing:
            break
        for each in growing[:room]:
            widths[each.key] += 1
        room -= min(room, len(growing))
    return Layout(tuple((each, widths[each.key]) for each in COLUMNS if each.key in widths))


def cells(row: Row, layout: Layout, now_ns: int) -> list[str]:
    """
    The row's text, one piece for each column, each as wide as its column.

    Of an ended container the figures are one piece: how it ended, and its bill.
    """
    pieces: list[str] = []
    room = 0
    for each, width in layout.columns:
        if row.ended_ns is not None and each.key in _FIGURES:
            room += width + (GAP if room else 0)
            continue
        if room:
            pieces.append(fitted(said_of_end(row.bill), room))
            room = 0
        shown = each.shown(row, now_ns, width)
        pieces.append(fitted(shown, width, right=each.right))
    if room:
        pieces.append(fitted(said_of_end(row.bill), room))
    return pieces


def said_of_end(bill: Bill | None) -> str:
    """
    >>> said_of_end(Bill(exit_code=3, cpu_seconds=1.5, memory_peak_bytes=12 << 20))
    'exit 3, CPU 1.50 s, peak 12M'
    """
    if bill is None:
        return "ended"
    how = "ended" if bill.exit_code is None else f"exit {bill.exit_code}"
    said = [how if bill.exit_signal is None else f"signal {bill.exit_signal}"]
    if bill.oom_kills:
        said.append(f"OOM kills {bill.oom_kills}")
    if bill.cpu_seconds is not None:
        said.append(f"CPU {bill.cpu_seconds:.2f} s")
    if bill.memory_peak_bytes is not None:
        said.append(f"peak {amount(bill.memory_peak_bytes)}")
    if bill.io_read_bytes or bill.io_write_bytes:
        said.append(f"I/O {amount((bill.io_read_bytes or 0) + (bill.io_write_bytes or 0))}")
    return ", ".join(said)


def view(
    rows: Iterable[Row], now_ns: int, *, sort: str = "age", reverse: bool = False, text: str = ""
) -> Sequence[Row]:
    """
    Those that have each word of *text* in a name, image, pod, runtime or id, in order.

    Of equals, and of those whose value is not known, the newest is the first: rows that say the
    same do not change places.
    """
    words = text.casefold().split()
    kept = [row for row in rows if all(word in row.hay for word in words)] if words else [*rows]
    kept.sort(key=lambda row: row.born_ns or 0, reverse=True)
    by = _BY_KEY[sort]
    known: list[tuple[Any, Row]] = []
    unknown: list[Row] = []
    for row in kept:
        value = by.value(row, now_ns)
        if value is None:
            unknown.append(row)
        else:
            known.append((value, row))
    known.sort(key=lambda one: one[0], reverse=by.down != reverse)
    return [row for _, row in known] + unknown
