"""Whom enforcement may stop: every refusal is the good case with one thing wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ctrwatch.core.enforcing import Inside, Outcome, Surroundings, enforcement, refusal, unsafe
from ctrwatch.event import Cgroup, Creator, Evidence
from tests.unit.verdicts import EVENT, VIOLATION

RUNC = Inside(pid=11, comm="runc:[2:INIT]", uid=0, older_s=0.004)
AROUND = Surroundings(
    path="/docker/c1", own="/system.slice/ctrwatch", first="/", us=99, inside=[RUNC]
)


def test_a_birth_that_breaks_a_rule_may_be_stopped() -> None:
    assert refusal(VIOLATION, EVENT) == ""
    assert unsafe(AROUND, creator_uid=0) == ""


def test_what_is_learnt_later_of_a_birth_may_stop_it_too() -> None:
    assert refusal(VIOLATION, msgspec.structs.replace(EVENT, event="container_update")) == ""


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        pytest.param({"event": "existing_container"}, "birth was not heard", id="existing"),
        pytest.param({"creator": Creator()}, "birth was not heard", id="found-later"),
        pytest.param({"evidence": Evidence(status="unverified")}, "name", id="unverified"),
        pytest.param({"cgroup": Cgroup()}, "not known", id="no-cgroup"),
        pytest.param({"cgroup": Cgroup(id=1, path="/", hierarchy_id=0)}, "root", id="root"),
        pytest.param({"cgroup": Cgroup(id=1, path="", hierarchy_id=0)}, "root", id="no-path"),
    ],
)
def test_an_event_that_is_not_enough(wrong: dict[str, Any], why: str) -> None:
    assert why in refusal(VIOLATION, msgspec.structs.replace(EVENT, **wrong))


@pytest.mark.parametrize("verdict", ["error", "undecided"])
def test_a_rule_of_which_nobody_knows_whether_it_holds(verdict: str) -> None:
    assert verdict in refusal(msgspec.structs.replace(VIOLATION, verdict=verdict), EVENT)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        pytest.param({"path": "/"}, "root", id="root"),
        pytest.param({"own": "/docker/c1"}, "ctrwatch itself", id="ctrwatch"),
        pytest.param({"own": "/docker/c1/init"}, "ctrwatch itself", id="ctrwatch-below"),
        pytest.param({"us": 11}, "ctrwatch itself", id="ctrwatch-by-pid"),
        pytest.param({"inside": [Inside(1, "init", 0, 0.0)]}, "process 1", id="1-by-pid"),
        pytest.param({"first": "/docker/c1/init.scope"}, "process 1", id="process-1"),
        pytest.param(
            {"inside": [RUNC, Inside(9, "dockerd", 0, 2.0)]}, "9 (dockerd)", id="a-daemon"
        ),
        pytest.param({"inside": [Inside(9, "postgres", 26, 11.0)]}, "older", id="anybody-older"),
    ],
)
def test_a_cgroup_in_which_others_live(wrong: dict[str, Any], why: str) -> None:
    assert why in unsafe(AROUND._replace(**wrong), creator_uid=0)


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param(Inside(9, "dockerd", 0, -0.2), id="docker-in-docker"),
        pytest.param(Inside(9, "systemd", 0, 0.02), id="the-machines-own-init"),
        pytest.param(Inside(9, "sleep", 0, 9.0), id="a-slow-runtimes-child"),
    ],
)
def test_the_containers_own_processes_do_not_protect_it(inside: Inside) -> None:
    assert unsafe(AROUND._replace(inside=[inside]), creator_uid=0) == ""


def test_a_user_can_not_protect_his_container_by_an_old_process_of_his() -> None:
    old = AROUND._replace(inside=[Inside(9, "sleep", 1000, 3600.0)])

    assert unsafe(old, creator_uid=1000) == ""
    assert "older" in unsafe(old, creator_uid=1001)
    assert "older" in unsafe(old, creator_uid=None)


def test_a_neighbour_with_a_longer_name_is_not_inside() -> None:
    assert unsafe(AROUND._replace(own="/docker/c12"), creator_uid=0) == ""


def test_the_event_of_it() -> None:
    event = enforcement(VIOLATION, "kill", Outcome("done", before_start=True), 1_000_000_000)

    assert (event.violation_id, event.container_id, event.container_name) == (
        "v1",
        "c1" * 32,
        "web",
    )
    assert (event.action, event.result, event.before_start) == ("kill", "done", True)
    assert event.time == "1970-01-01T00:00:01.000000000Z"
    struck = Outcome("done", at_ns=500_000_000)
    assert enforcement(VIOLATION, "kill", struck, 10**9).time == "1970-01-01T00:00:00.500000000Z"
    again = enforcement(VIOLATION, "kill", Outcome("failed", "x"), 2_000_000_000)
    assert again.id == event.id
    assert enforcement(VIOLATION, "freeze", Outcome("done"), 0).id != event.id
