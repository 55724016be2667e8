"""A user's births by the thousand: a hundred are told singly, the rest together, nobody else's with them."""

from __future__ import annotations

import msgspec
import pytest

from ctrwatch.core import render
from ctrwatch.core.chain import Chain, Ending, Header, Overdue, Reply, Report
from ctrwatch.core.changes import Begun, Born, Gone, Look, Placed, Started
from ctrwatch.core.flood import SERIAL, Floods, flood
from ctrwatch.core.ledger import Reading
from ctrwatch.core.story import Alarm, Ask, Tell
from ctrwatch.event import Flood
from ctrwatch.model import (
    Answer,
    CgroupKey,
    ContainerId,
    Facts,
    Found,
    Identity,
    Listed,
    NotFound,
    RawEvent,
    Runtime,
    Task,
)
from tests.unit.builders import MS, Kernel, runc
from tests.unit.test_story import born as story_born

WINDOW_NS = 10_000 * MS
SINGLY = 100
USER = Task(pid=7, ppid=1, uid=65534, comm="sh", argv=("sh",))


def born(serial: int, *, uid: int = 1000, at_ms: float = 0, called: bool = False) -> Born:
    creator = msgspec.structs.replace(USER, uid=uid)
    path = f"/u/docker-{serial:064x}.scope"
    identity = Identity(ContainerId(f"{serial:064x}"), Runtime.DOCKER, is_root=True)
    changes = {"boot_ns": int(at_ms * MS), "identity": identity, "creator": creator, "path": path}
    made = story_born(serial, cgroup=CgroupKey(0, serial), **changes)
    return made if called else msgspec.structs.replace(made, call=None)


def admitted(floods: Floods, births: list[Born]) -> int:
    return sum(floods.admits(birth) for birth in births)


def test_a_hundred_are_told_singly_and_the_rest_together() -> None:
    floods = Floods()

    assert admitted(floods, [born(n, at_ms=n) for n in range(1, 2004)]) == SINGLY
    assert floods.next_ns() == 1 * MS + WINDOW_NS
    assert floods.due(1 * MS + WINDOW_NS - 1) == []
    [excess] = floods.due(1 * MS + WINDOW_NS)
    assert (excess.uid, excess.number) == (1000, 1903)
    assert excess.examples == tuple(f"/u/docker-{n:064x}.scope" for n in (101, 102, 103))
    assert floods.due(1 << 62) == []
    assert floods.next_ns() is None


def test_the_next_window_has_a_budget_of_its_own() -> None:
    floods = Floods()
    admitted(floods, [born(n) for n in range(1, 151)])

    late = [born(n, at_ms=10_000) for n in range(151, 301)]

    assert admitted(floods, late) == SINGLY
    assert [each.number for each in floods.due(10_000 * MS)] == [50]
    assert [each.number for each in floods.due(20_000 * MS)] == [50]


def test_what_evidence_speaks_for_does_not_count() -> None:
    floods = Floods()
    for serial in range(1, 1010):
        assert floods.admits(born(serial, called=True))
        floods.answered(serial, "bundle", Found(Facts()))


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        pytest.param("bundle", NotFound(), id="nobody-knows-it"),
        pytest.param("creator", Found(Facts()), id="a-lead-is-no-evidence"),
    ],
)
def test_what_is_no_evidence_counts(source: str, answer: Answer) -> None:
    floods = Floods()
    births = [born(serial) for serial in range(1, 151)]
    for birth in births[:SINGLY]:
        floods.admits(birth)
        floods.answered(birth.serial, source, answer)

    assert admitted(floods, births[SINGLY:]) == 0


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(born(999, uid=1001), id="another-user"),
        pytest.param(born(999, uid=0), id="root"),
        pytest.param(born(999, called=True), id="an-oci-runtime-of-the-same-user"),
        pytest.param(msgspec.structs.replace(born(999), creator=None), id="one-that-was-there"),
    ],
)
def test_who_makes_no_flood_is_told(other: Born) -> None:
    floods = Floods()
    admitted(floods, [born(serial) for serial in range(1, 151)])

    assert floods.admits(other)


def test_root_has_no_budget() -> None:
    births = [born(serial, uid=0) for serial in range(1, 2004)]

    assert admitted(Floods(), births) == len(births)


def test_a_user_of_many_ids_has_as_much_memory_as_a_few() -> None:
    floods = Floods()
    births = [born(n, uid=100_000 + n) for n in range(1, 2004)]

    assert admitted(floods, births) == 256 + SINGLY  # those beyond share one budget
    assert len(floods._windows) == 257
    [excess] = floods.due(WINDOW_NS)
    assert (excess.uid, excess.number) == (None, 2003 - 256 - SINGLY)
    assert (floods._windows, floods._lanes) == ({}, {})


def test_as_an_event() -> None:
    floods = Floods()
    odd = msgspec.structs.replace(born(101), path="/caf\udce9\x1b[2J/docker-x.scope")
    admitted(floods, [*(born(n) for n in range(1, 101)), odd])
    [excess] = floods.due(WINDOW_NS)

    event = flood(excess, "h", "boot", 1_700_000_000 * 10**9)

    assert msgspec.json.decode(render.host_json_line(event), type=Flood) == event
    assert render.host_text_line(event) == (
        "22:13:30.000  flood     ! uid 1000 made 1 more cgroups that are named like containers between"
        " 2023-11-14T22:13:20.000Z and 2023-11-14T22:13:30.000Z,"
        " such as /caf\\xe9\\x1b[2J/docker-x.scope\n"
    )
    assert event == flood(excess, "h", "boot", 1_700_000_000 * 10**9)
    assert event.id != flood(excess, "h", "another", 1_700_000_000 * 10**9).id


# --- in the chain ------------------------------------------------------------------------

HEADER = Header(host="h", boot_id="b", wall_offset_ns=10**18, wait_ns=2000 * MS, unified=True)


class Host:
    """A kernel, a chain, and what comes out of it."""

    def __init__(self) -> None:
        self.kernel, self.chain = Kernel(), Chain(HEADER)
        self.told: list[str] = []
        self.floods: list[Flood] = []
        self.alarms: list[Alarm] = []
        self.asks: list[Ask] = []

    def feed(self, *items: RawEvent | Overdue | Ending | Reply | Listed) -> None:
        for item in items:
            for effect in self.chain.feed(item):
                match effect:
                    case Tell(event):
                        self.told.append(event.event)
                    case Report(event):
                        assert isinstance(event, Flood)
                        self.floods.append(event)
                    case Alarm():
                        self.alarms.append(effect)
                    case Ask():
                        self.asks.append(effect)
                    case Look() | Born() | Placed() | Begun() | Started() | Gone() | Reading():
                        pytest.fail("nobody's first task is a runtime's, and no use is read")

    def flood(self, number: int) -> None:
        for n in range(number):
            path = f"/u/docker-{n:064x}.scope"
            self.feed(
                self.kernel.mkdir(path, USER),
                self.kernel.attach(path, USER),
                self.kernel.rmdir(path, USER),
            )

    def ring(self) -> None:
        while self.alarms:
            alarm = self.alarms.pop(0)
            self.feed(Overdue(boot_ns=alarm.boot_ns, serial=alarm.serial))


def test_a_flood_is_one_event_and_leaves_nothing_behind() -> None:
    host = Host()
    host.flood(1009)

    assert host.chain.living == 0
    assert host.chain.untold == SINGLY
    assert [alarm.serial for alarm in host.alarms].count(SERIAL) == 1
    host.ring()

    assert (host.told.count("container_create"), host.told.count("container_remove")) == (100, 100)
    [event] = host.floods
    assert (event.uid, event.count) == (65534, 909)
    assert host.chain.told["flooded"] == 909
    assert host.chain.untold == 0


def test_nobody_is_asked_about_what_is_told_together() -> None:
    host = Host()
    host.flood(1009)

    assert len({ask.serial for ask in host.asks}) == SINGLY


def test_a_container_in_a_flood_is_told_as_ever() -> None:
    host = Host()
    host.flood(500)
    maker = runc("web")
    host.feed(*host.kernel.birth("/default/web", maker))
    host.flood(500)

    assert "web" in {ask.subject.container_id for ask in host.asks}


def test_the_end_tells_of_a_flood_that_is_not_over() -> None:
    host = Host()
    host.flood(150)
    host.feed(Ending(boot_ns=host.kernel.boot_ns))

    assert [event.count for event in host.floods] == [50]


def test_what_happens_in_a_cgroup_that_was_told_together_is_nothing() -> None:
    host, path = Host(), f"/u/docker-{'f' * 64}.scope"
    host.flood(150)
    host.feed(host.kernel.mkdir(path, USER))
    before = len(host.asks), len(host.told), host.chain.living

    host.feed(host.kernel.attach(path, USER), host.kernel.exec(path, USER))
    host.feed(host.kernel.rmdir(path, USER))

    assert (len(host.asks), len(host.told), host.chain.living) == before
