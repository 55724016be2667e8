"""packaging/ctrwatch.service in the virtual machine: births complete under it, and how it is shut in."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from ctrwatch.privileges import NUMBERS, READING
from tests.matrix.table import cell
from tests.vm.disk import ROOT
from tests.vm.service import CHOSEN, Result

pytestmark = pytest.mark.timeout(0)  # the first one waits for the machine's whole run


@pytest.fixture(scope="module")
def service(results: Path) -> Result:
    return msgspec.json.decode((results / "service.json").read_bytes(), type=Result)


@pytest.mark.parametrize("way", CHOSEN)
def test_births_are_complete_under_it(service: Result, way: str) -> None:
    outcome = service.ways[way]

    assert not outcome.not_run
    assert (outcome.besides, outcome.wrong) == ([], [])
    assert outcome.seen == outcome.complete == outcome.ended == outcome.born > 0, cell(outcome)


def test_systemd_hears_how_it_stands(service: Result) -> None:
    assert service.properties["ActiveState"] == "active"
    assert service.properties["StatusText"] == "listening; 0 containers were there"
    assert service.properties["NRestarts"] == "0"
    assert service.reloaded
    assert service.restarted  # after it had hung
    assert (service.ended["Result"], service.ended["ExecMainStatus"]) == ("success", "0")


def test_use_and_a_history_under_it(service: Result) -> None:
    """What it may not write, open or call would show: a bill that could not be read is not final."""
    births = sum(outcome.born for outcome in service.ways.values())
    assert len(service.bills) >= births
    assert any(service.bills)
    assert service.kept.count("container_remove") >= births


def test_every_thread_is_shut_in(service: Result) -> None:
    mask = sum(1 << NUMBERS[name] for name in READING)
    assert len(service.threads) > 1
    for thread in service.threads:
        assert int(thread["CapEff"], 16) == int(thread["CapPrm"], 16) == mask
        assert (thread["NoNewPrivs"], thread["Seccomp"]) == ("1", "2")


def test_the_page_says_how_exposed_it_is(service: Result) -> None:
    said = re.search(r"exposure level ([\d.]+)", (ROOT / "docs/security.md").read_text())
    assert said is not None
    assert float(said[1]) == service.exposure
