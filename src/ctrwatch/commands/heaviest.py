"""`ctrwatch history --heaviest`: who used most, and which share of the host."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ctrwatch.core import cells
from ctrwatch.core.costs import Cost
from ctrwatch.core.said import percent, size
from ctrwatch.core.text import clean, escaped, short_id
from ctrwatch.outputs.heaviest import By, heaviest
from ctrwatch.outputs.history import Asked, History

__all__ = ("run",)

_MOST: Final = 20  # as many as anybody looks at one by one
_HEAD: Final = (
    "CPU", "OF USED", "OF HOST", "PEAK", "OF HOST", "READ", "WRITTEN", "IN", "RUNTIME", "NAME", "IMAGE", "ID",
)  # fmt: skip
_RUNTIME, _NAME, _IMAGE = 10, 20, 40  # characters of strangers' words
_RIGHT: Final = 8  # columns of numbers
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def run(path: Path, asked: Asked, by: By, form: str) -> int:
    """*form*: table, json or csv."""
    most = asked.limit or _MOST
    with History(path) as history, contextlib.suppress(BrokenPipeError):
        found = heaviest(history, asked, by, most + 1)
        for line in _FORMS[form](found[:most]):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if found and all(each.read == "" for each in found):
            _say("what they used is not kept: `ctrwatch events --usage --store FILE` keeps it")
        elif len(found) > most and asked.limit is None:
            _say(f"the {most} heaviest; --limit shows more")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"ctrwatch: {text}\n")


def _json(costs: Sequence[Cost]) -> Iterator[bytes]:
    shown = escaped if sys.stdout.isatty() else bytes
    for each in costs:
        yield shown(msgspec.json.encode(each) + b"\n")


def _csv(costs: Sequence[Cost]) -> Iterator[bytes]:
    yield cells.row(Cost.__struct_fields__).encode()
    for each in costs:
        fields = msgspec.to_builtins(each)
        fields["missing"] = " ".join(f"{name}: {why}" for name, why in each.missing.items())
        fields["final"] = str(each.final).lower()
        yield cells.row(fields.values()).encode()


def _table(costs: Sequence[Cost]) -> Iterator[bytes]:
    if not costs:
        return
    lines = [_HEAD, *map(_columns, costs)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield _line(line, widths)


def _columns(cost: Cost) -> tuple[str, ...]:
    def known(name: str, said: Callable[[float], str]) -> str:
        value = getattr(cost, name)
        return cost.missing.get(name, "-") if value is None else said(value)

    return (
        known("cpu_seconds", lambda seconds: f"{seconds:.1f} s"),
        known("cpu_share_of_used", percent),
        known("cpu_share_of_host", percent),
        known("memory_peak_bytes", lambda number: size(int(number))),
        known("memory_share_of_host", percent),
        known("io_read_bytes", lambda number: size(int(number))),
        known("io_write_bytes", lambda number: size(int(number))),
        _lived(cost),
        clean(cost.runtime or "-", _RUNTIME),
        clean(cost.container_name or "-", _NAME),
        clean(cost.container_image or "-", _IMAGE),
        short_id(cost.container_id),
    )


def _lived(cost: Cost) -> str:
    """Of how much of its life the figures are; a + where it went on, or may have."""
    if cost.seconds is None:
        return "-"
    return _span(cost.seconds) + ("" if cost.ended and cost.final else "+")


def _span(seconds: float) -> str:
    """
    >>> _span(4.21), _span(600), _span(90_000)
    ('4.2 s', '10 min', '25.0 h')
    """
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h" if seconds < 2 * _DAY_S else f"{seconds / _DAY_S:.1f} d"


def _line(columns: Sequence[str], widths: Sequence[int]) -> bytes:
    padded = [
        f"{text:>{width}}" if number < _RIGHT else f"{text:{width}}"
        for number, (text, width) in enumerate(zip(columns, widths, strict=True))
    ]
    return ("  ".join(padded).rstrip() + "\n").encode()


_FORMS: Final[dict[str, Callable[[Sequence[Cost]], Iterator[bytes]]]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
}
