"""Times as people give them: RFC 3339, or how long ago. Pure: the clock is the caller's."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ctrwatch.errors import InputError

__all__ = ("moment", "span_ns")

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGO: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(option: str, text: str, now_ns: int) -> int:
    """
    Nanoseconds since the epoch. Without a zone it is UTC, without a time midnight.

    Raises InputError, which names *option*.

    >>> moment("--since", "2h", 7_200_000_000_001)
    1
    >>> moment("--since", "1970-01-01T01:00:00.000000002+01:00", 0)
    2
    >>> moment("--until", "1970-01-02", 0)
    86400000000000
    """
    if (ago_ns := span_ns(text)) is not None:
        return max(0, now_ns - ago_ns)
    whole = _RFC3339.fullmatch(text)
    day, minutes, seconds, fraction, zone = whole.groups() if whole else ("",) * 5
    given = f"{day}T{minutes or '00:00'}{seconds or ':00'}{(zone or 'Z').upper()}"
    try:
        since = datetime.fromisoformat(given) - _EPOCH
    except (ValueError, OverflowError):
        raise InputError(
            f"{option} {text[:60]}: give a time as 2026-11-23T19:46:12Z, or how long ago, as 7d or 2h"
        ) from None
    return since // timedelta(seconds=1) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def span_ns(text: str) -> int | None:
    """
    A length of time as people give it, in nanoseconds; None: it is none.

    >>> span_ns("2m"), span_ns("1.5s")
    (120000000000, None)
    """
    found = _AGO.fullmatch(text)
    return int(found[1]) * _UNITS_S[found[2]] * 1_000_000_000 if found else None
