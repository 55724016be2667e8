"""The table in docs/security.md of what was fuzzed: a row for each boundary, in the registry's order."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.fuzz.registry import BOUNDARIES
from tests.fuzz.runner import Run

__all__ = ("FULL", "HEAD", "PAGE", "ROW", "rows", "written")

PAGE: Final = Path(__file__).parents[2] / "docs/security.md"
FULL: Final = 1_000_000  # inputs: a run of fewer does not change the table
HEAD: Final = (
    "| boundary | what is fed, and to whom | inputs | seed | date | seconds | outcomes | slowest |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
ROW: Final = re.compile(
    r"^\| `(?P<name>[\w.]+)` \| .* \| (?P<inputs>[\d,]+) \| \d+ \| [\d-]+ \| \d+ \| \d+ \| \d+ ms \|$",
    re.MULTILINE,
)

Result = tuple[Run, int, dt.date]  # with its seed


def rows(page: str) -> dict[str, str]:
    """The table's rows by boundary."""
    return {found["name"]: found[0] for found in ROW.finditer(page)}


def written(page: str, results: Mapping[str, str | Result]) -> str:
    """The page with these rows: lines that were there, and results."""
    lines = [
        result if isinstance(result := results[name], str) else _row(name, *result)
        for name in BOUNDARIES
        if name in results
    ]
    before, head, rest = page.partition(HEAD)
    if not head:
        raise ValueError("docs/security.md has lost its table of what was fuzzed")
    after = rest[rest.index("\n\n") :] if rest.startswith("| ") else "\n" + rest
    return before + head + "\n".join(lines) + after


def _row(name: str, done: Run, seed: int, date: dt.date) -> str:
    return (
        f"| `{name}` | {BOUNDARIES[name].fed} | {done.inputs:,} | {seed} | {date}"
        f" | {done.seconds:.0f} | {done.outcomes} | {done.slowest_ms:.0f} ms |"
    )
