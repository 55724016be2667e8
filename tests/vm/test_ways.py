"""Every way to make a container under systemd: none has become worse than docs/support.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix.table import cell, read, worse
from tests.matrix.ways import WAYS


@pytest.mark.timeout(0)  # the first one waits for the machine's whole run, which has its own
@pytest.mark.parametrize("way", [way.name for way in WAYS])
def test_as_the_page_says(results: Path, way: str) -> None:
    columns = read("vm"), read("vm", results / "vm.json")
    said, now = (column.ways[way] for column in columns if column is not None)

    assert not now.besides
    assert not worse(now, said), f"{cell(now)}\nnot as the page says: {cell(said)}"
