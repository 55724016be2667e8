"""What the runtimes list against what was told: which differences are findings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ctrwatch.core.audit import doubts, forgotten, missed
from ctrwatch.event import Creator, Evidence
from ctrwatch.model import ContainerId, Listing, Record, Runtime
from tests.unit.test_render import WEB

NOW_NS = 1_795_463_172_000_000_000
OLD_NS = NOW_NS - 60_000_000_000


def record(container_id: str = "a", **changes: Any) -> Record:
    made = Record(
        source="docker",
        runtime=Runtime.DOCKER,
        container_id=ContainerId(container_id),
        uid=0,
        created_ns=OLD_NS,
        running=True,
    )
    return msgspec.structs.replace(made, **changes)


def test_what_runs_and_was_not_announced_was_missed() -> None:
    known, unknown = record("known"), record("unknown")

    found = missed(Listing(records=(known, unknown, unknown)), frozenset({"known"}), NOW_NS)

    assert found == [unknown]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"running": False}, id="does-not-run"),
        pytest.param({"running": None}, id="its-runtime-does-not-say"),
        pytest.param({"created_ns": NOW_NS - 1_000_000_000}, id="being-born"),
        pytest.param({"created_ns": None}, id="of-unknown-age"),
        pytest.param({"uid": 1000}, id="a-users-daemon-says-so"),
    ],
)
def test_what_need_not_be_announced_was_not_missed(changes: dict[str, Any]) -> None:
    assert missed(Listing(records=(record(**changes),)), frozenset(), NOW_NS) == []


def told(**changes: Any) -> Any:
    event = msgspec.structs.replace(WEB, runtime=Runtime.DOCKER, creator=Creator(uid=0))
    return msgspec.structs.replace(event, **changes)


OTHER = Listing(records=(record("other"),))


def test_one_that_its_runtime_does_not_list_is_in_doubt() -> None:
    assert [doubt.serial for doubt in doubts(OTHER, [(7, told())])] == [7]


@pytest.mark.parametrize(
    ("listing", "event"),
    [
        pytest.param(Listing(records=(record(WEB.container_id),)), told(), id="listed"),
        pytest.param(Listing(), told(), id="nobody-lists"),
        pytest.param(
            Listing(records=OTHER.records, unavailable=("docker: it hangs",)),
            told(),
            id="somebody-did-not-answer",
        ),
        pytest.param(OTHER, told(runtime=Runtime.RUNC), id="of-no-daemon"),
        pytest.param(OTHER, told(outer=("b",)), id="inside-of-another"),
        pytest.param(OTHER, told(creator=Creator(uid=1000)), id="a-users"),
    ],
)
def test_one_of_which_the_lists_say_nothing_is_not(listing: Listing, event: Any) -> None:
    assert doubts(listing, [(7, event)]) == []


def test_one_that_no_evidence_speaks_for_is_in_doubt_whoever_lists() -> None:
    event = told(runtime=Runtime.UNKNOWN, evidence=Evidence(status="unverified"))

    assert len(doubts(Listing(), [(7, event)])) == 1


def test_what_was_born_and_has_ended_meanwhile_is_remembered() -> None:
    second = 1_000_000_000
    ended = record("ended", running=False, created_ns=50 * second)
    cut = record("cut", running=False, created_ns=10 * second)  # dockerd's clock has no more
    records = (
        ended,
        cut,
        record("lives", created_ns=50 * second),
        record("before", running=False, created_ns=9 * second),
        record("after", running=False, created_ns=500 * second),
        record("announced", running=False, created_ns=50 * second),
        record("ageless", running=False, created_ns=None),
        record("a-users", running=False, created_ns=50 * second, uid=1000),
    )
    since_ns, until_ns = 10 * second + 7, 100 * second

    found = forgotten(Listing(records=records), frozenset({"announced"}), since_ns, until_ns)

    assert found == [ended, cut]


def test_a_users_daemon_does_not_vouch_for_roots_container() -> None:
    his = record(WEB.container_id, uid=1000)

    assert len(doubts(Listing(records=(*OTHER.records, his)), [(7, told())])) == 1
