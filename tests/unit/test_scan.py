"""Whose first process a number is: pids are used again, and what a runtime noted of them stays."""

from __future__ import annotations

import os

import pytest

from ctrwatch.sensor import proc
from ctrwatch.sensor.scan import is_init, is_still

ME = os.getpid()


def test_a_shims_child_is_a_containers_first_process() -> None:
    assert is_init(ME, "web", {os.getppid()})


def test_another_process_with_its_number_is_not() -> None:
    assert not is_init(ME, "web", {ME})


def test_a_process_in_a_cgroup_of_that_name_is() -> None:
    names = {name for path in proc.cgroups(ME).values() for name in path.split("/")} - {""}
    if not names:
        pytest.skip("this process is in no cgroup but the root")
    assert all(is_init(ME, name, set()) for name in names)


def test_one_that_has_ended_is_not() -> None:
    assert not is_init(2**22 + 1, "web", {ME})  # more than the kernel's PID_MAX_LIMIT


@pytest.mark.parametrize(
    ("later", "still"),
    [
        pytest.param(0, True, id="started-then"),
        pytest.param(1, False, id="another-one-started-later"),
        pytest.param(None, True, id="its-state-does-not-say"),
    ],
)
def test_a_state_is_of_the_process_that_started_then(later: int | None, *, still: bool) -> None:
    started_ns = proc.started_ns(ME)
    assert started_ns is not None
    ticks = None if later is None else started_ns // proc.NS_PER_TICK - later

    assert is_still(ME, ticks) == still


def test_a_state_of_one_that_has_ended_is_of_nobody() -> None:
    assert not is_still(2**22 + 1, None)
