"""A table on a terminal: columns as wide as what is in them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

__all__ = ("print_table",)


def print_table(
    rows: Sequence[tuple[str, ...]], *, measure: Callable[[str], int] = len, gap: int = 2
) -> None:
    """*measure*: the cells that a text takes. *gap*: between two columns."""
    widths = [max(measure(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell + " " * (width - measure(cell)) for cell, width in zip(row, widths, strict=True)
        )
        sys.stdout.write((" " * gap).join(cells).rstrip() + "\n")
