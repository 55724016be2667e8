"""docs/support.md is what the runs wrote: `make support` and `make test-vm` write it anew."""

from __future__ import annotations

from tests.matrix.table import COLUMNS, PAGE, page, read


def test_the_page_is_the_one_that_the_results_give() -> None:
    assert PAGE.read_text() == page({name: read(name) for name in COLUMNS})
