"""What containers use, in the virtual machine: pure cgroup v2, its controllers, systemd as process 1."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.vm.usage import CHOSEN

pytestmark = pytest.mark.timeout(0)  # the first one waits for the machine's whole run


@pytest.mark.parametrize("name", CHOSEN)
def test_use_is_read_on_cgroup_v2(results: Path, name: str) -> None:
    cases = {case.get("name"): case for case in ET.parse(results / "usage.xml").iter("testcase")}
    said = [each.text for each in cases[name] if each.tag in ("failure", "error", "skipped")]

    assert not said, said[0]
