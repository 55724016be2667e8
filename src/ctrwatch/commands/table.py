"""A table on a terminal: columns as wide as what is in them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ("print_table",)


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
