"""
What a rule can read of a container's use: `usage.cpu_cores`, `usage.memory_share`. Pure.

The figures of a reading, flat: those of `Usage` and of its pressure, the rates since the look
before, the age, and shares of limits. What is not known is left out, for then a rule decides
without it, or not at all (core/cel.py). Only a limit may be null: there is none. A share of a limit
that is not there is 0, so that who is not bounded is never near a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, get_args, get_type_hints

from ctrwatch.core.ledger import Reading
from ctrwatch.core.said import size
from ctrwatch.core.usage import share
from ctrwatch.event import Pressure, Rates, Usage

__all__ = ("FIGURES", "IDLE", "LIMITS", "PREFIX", "Figures", "figures", "text_of")

# By their dotted names, as rules write them.
Figures = Mapping[str, float | int | None]

PREFIX: Final = "usage."
_PRESSURE: Final = "pressure"
_WHOLE: Final = "memory_working_set_bytes"


def _kinds(struct: type, prefix: str = PREFIX) -> dict[str, type]:
    """int or float, of each number that the type has."""
    kinds: dict[str, type] = {}
    for name, type_ in get_type_hints(struct).items():
        kind = {int, float} & {type_, *get_args(type_)}
        if kind:
            kinds[prefix + name] = kind.pop()
    return kinds


_RATES: Final = tuple(name for name in Rates.__struct_fields__ if name != "seconds")
_SHARES: Final = {
    "memory_share": (_WHOLE, "memory_limit_bytes"),
    "pids_share": ("pids", "pids_limit"),
}
LIMITS: Final = frozenset({f"{PREFIX}memory_limit_bytes", f"{PREFIX}pids_limit"})
# Of each figure whether it is whole or not.
FIGURES: Final[Mapping[str, type]] = {
    **_kinds(Usage),
    **_kinds(Pressure, f"{PREFIX}{_PRESSURE}."),
    **{name: kind for name, kind in _kinds(Rates).items() if name != f"{PREFIX}seconds"},
    **dict.fromkeys((f"{PREFIX}{name}" for name in _SHARES), float),
    f"{PREFIX}age_seconds": float,
}
# A minute old, and nothing happens in it: what the tests of policies begin with.
IDLE: Final[Figures] = {
    **{name: kind(0) for name, kind in FIGURES.items()},
    **dict.fromkeys(LIMITS),
    f"{PREFIX}age_seconds": 60.0,
}


def figures(reading: Reading) -> dict[str, float | int | None]:
    """What is known at that look."""
    usage, rates = reading.usage, reading.rates
    known: dict[str, Any] = {
        PREFIX + name: getattr(usage, name) for name in _USED if name not in usage.missing
    }
    if usage.pressure is not None:
        for name in Pressure.__struct_fields__:
            known[f"{PREFIX}{_PRESSURE}.{name}"] = getattr(usage.pressure, name)
    if rates is not None:
        for name in _RATES:
            known[PREFIX + name] = getattr(rates, name)
    known[f"{PREFIX}age_seconds"] = reading.age_seconds
    known |= shares(known)
    return {name: value for name, value in known.items() if value is not None or name in LIMITS}


_USED: Final = tuple(name for name in Usage.__struct_fields__ if name not in (_PRESSURE, "missing"))


def shares(known: Figures) -> dict[str, float]:
    """
    Of limits, as far as both are known.

    >>> shares({"usage.pids": 5, "usage.pids_limit": 20}), shares({"usage.pids": 5})
    ({'usage.pids_share': 0.25}, {})
    """
    found: dict[str, float] = {}
    for name, (used, limit) in _SHARES.items():
        if known.get(PREFIX + used) is not None and PREFIX + limit in known:
            found[PREFIX + name] = share(known[PREFIX + used], known[PREFIX + limit]) or 0.0
    return found


def text_of(name: str, known: Figures) -> str:
    """
    A figure as people read it; "?" for what is not known.

    >>> text_of("usage.memory_share", {"usage.memory_share": 0.937})
    '94 %'
    >>> text_of("usage.memory_bytes", {"usage.memory_bytes": 3 << 20})
    '3.0 MB'
    """
    if name not in known:
        return "?"
    value = known[name]
    if value is None:
        return "no limit"
    for suffix, said in _SAID.items():
        if name.endswith(suffix):
            return said(value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)


_SAID: Final[Mapping[str, Callable[[float], str]]] = {
    "_bytes_per_second": lambda value: f"{size(int(value))}/s",
    "_bytes": lambda value: size(int(value)),
    "_share": lambda value: f"{100 * value:.0f} %",
    "_percent": lambda value: f"{value:.0f} %",
    "_seconds": lambda value: f"{value:.1f} s",
}
