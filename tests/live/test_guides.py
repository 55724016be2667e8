"""Every command on a guide's page is executed, on a host with real containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.guides import Guide
from tests.live.runtimes import Ctr

GUIDES = ("policies.md",)


@pytest.mark.parametrize("page", GUIDES)
def test_a_guide_can_be_followed(ctr: Ctr, page: str, tmp_path: Path) -> None:
    ctr.run("guided", "sleep", "600")
    try:
        guide = Guide(page, tmp_path)
        guide.follow()
    finally:
        ctr.remove("guided")

    assert len(guide.followed) >= 3
