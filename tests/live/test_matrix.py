"""Every way to make a container: none has become worse than docs/support.md says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ctrwatch.sensor.host import read_host
from tests.live.bed import Bed
from tests.matrix.pure import in_pure_v2
from tests.matrix.table import Column, cell, read, worse
from tests.matrix.ways import WAYS


@pytest.fixture(scope="module", params=["hybrid", "v2"])
def columns(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Column, Column]:
    """What the page says, and what is so now."""
    name = str(request.param)
    if Bed.systemd or read_host().mode != "hybrid":
        pytest.skip("another kind of host than the page's")
    results = tmp_path_factory.mktemp("matrix") / f"{name}.json"
    words = [sys.executable, "-m", "tests.matrix", "--column", name, "--results", str(results)]
    subprocess.run(in_pure_v2(words) if name == "v2" else words, check=True, timeout=600)
    said, now = read(name), read(name, results)
    assert said is not None
    assert now is not None
    return said, now


@pytest.mark.parametrize("way", [way.name for way in WAYS])
def test_as_the_page_says(columns: tuple[Column, Column], way: str) -> None:
    said, now = (column.ways[way] for column in columns)

    assert not now.besides
    assert not worse(now, said), f"{cell(now)}\nnot as the page says: {cell(said)}"
