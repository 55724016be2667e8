"""From raw events to events in one pure step; and a journal of the inputs gives them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ctrwatch.core.chain import (
    Chain,
    Clock,
    Effect,
    Ending,
    Header,
    Input,
    Looked,
    Lost,
    Overdue,
    Patience,
    Reply,
)
from ctrwatch.core.changes import Look
from ctrwatch.core.story import Alarm, Ask, Tell
from ctrwatch.event import ContainerEvent
from ctrwatch.model import (
    Answer,
    ContainerId,
    Facts,
    Found,
    Leads,
    Limits,
    Listed,
    Missing,
    NotFound,
    Process,
    RawEvent,
    Runtime,
    Security,
    Unavailable,
)
from ctrwatch.sensor.journal import JournalWriter, read_journal
from tests.unit.builders import CID, MS, SOMEBODY, SYSTEMD, V2, Kernel, child, runc

HEADER = Header(
    host="h", boot_id="b", wall_offset_ns=1_700_000_000 * 10**9, wait_ns=2000 * MS, unified=True
)
SPEC = Facts(security=Security(), limits=Limits(), process=Process(args=("true",)))
RECORD = Facts(
    runtime=Runtime.CONTAINERD,
    image="docker.io/library/busybox:latest",
    image_id="sha256:" + "c" * 64,
    name="t1",
    labels={},
    sandbox=False,
    absent={
        "container_image_digest": Missing.NO_REGISTRY_DIGEST,
        **dict.fromkeys(("pod_name", "pod_namespace", "pod_uid"), Missing.NOT_IN_POD),
    },
)


class Watched:
    """A chain with its enricher and its clock in the test's hands."""

    def __init__(self, header: Header = HEADER) -> None:
        self.chain = Chain(header)
        self.inputs: list[Input] = []
        self.effects: list[Effect] = []
        self.asks: list[Ask] = []
        self.alarms: list[Alarm] = []
        self.now_ns = Kernel().boot_ns

    def feed(self, item: Input) -> list[ContainerEvent]:
        self.now_ns = max(self.now_ns, getattr(item, "boot_ns", 0))
        self.inputs.append(item)
        effects = self.chain.feed(item)
        self.effects += effects
        self.asks += (effect for effect in effects if isinstance(effect, Ask))
        self.alarms += (effect for effect in effects if isinstance(effect, Alarm))
        return [effect.event for effect in effects if isinstance(effect, Tell)]

    def answer(self, ask: Ask, answer: Answer) -> list[ContainerEvent]:
        self.asks.remove(ask)
        return self.feed(
            Reply(boot_ns=self.now_ns, serial=ask.serial, source=ask.source, answer=answer)
        )

    def ring(self) -> list[ContainerEvent]:
        alarm = min(self.alarms, key=lambda alarm: alarm.boot_ns)
        self.alarms.remove(alarm)
        return self.feed(Overdue(boot_ns=max(self.now_ns, alarm.boot_ns), serial=alarm.serial))

    @property
    def told(self) -> list[ContainerEvent]:
        return [effect.event for effect in self.effects if isinstance(effect, Tell)]


def names(events: list[ContainerEvent]) -> list[str]:
    return [event.event.removeprefix("container_") for event in events]


def test_a_life_on_a_hybrid_host() -> None:
    """`ctr run` of /bin/true, with the answers as they came."""
    watched, kernel = Watched(), Kernel()
    maker = runc("t1")
    answers: dict[str, Answer] = {
        "creator": Found(Facts(leads=Leads(bundle="/b"))),
        "bundle": Found(SPEC),
        "docker.files": NotFound(),
        "podman.files": NotFound(),
        "containerd": Found(RECORD),
        "init": Found(Facts(init_pid=7209)),
    }

    for event in kernel.life("/demo/t1", maker):
        watched.feed(event)
        for ask in list(watched.asks):
            watched.answer(ask, answers[ask.source])

    create, start, remove = watched.told
    assert names(watched.told) == ["create", "start", "remove"]
    assert (create.evidence.status, create.cgroup.version) == ("complete", 2)
    assert create.time < start.time < remove.time
    assert create.id == start.id.removesuffix("-start") == remove.id.removesuffix("-remove")
    assert create.creator.pid == 7199
    assert create.init.pid == 7209
    assert (watched.chain.living, watched.chain.untold) == (0, 0)
    assert watched.chain.told == {
        "container_create": 1,
        "container_start": 1,
        "container_remove": 1,
        "complete": 1,
    }


def test_whose_cgroup_systemd_made_is_asked_of_the_first_tasks_parent() -> None:
    watched, kernel = Watched(), Kernel()
    maker, scope = runc("web", command="run"), "/system.slice/runc-web.scope"
    watched.feed(kernel.mkdir(scope, SYSTEMD))
    watched.feed(kernel.attach(scope, child(maker)))
    [look] = [effect for effect in watched.effects if isinstance(effect, Look)]

    watched.feed(Looked(cgroup=look.cgroup, caller=maker))

    subject = next(ask.subject for ask in watched.asks if ask.source == "creator")
    assert (subject.container_id, subject.creator, subject.init) == ("web", SYSTEMD, child(maker))


def test_what_is_no_container_has_no_effect() -> None:
    watched, kernel = Watched(), Kernel()

    for event in kernel.life("/user.slice/a.scope", SOMEBODY):
        watched.feed(event)

    assert watched.effects == []


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(Lost(boot_ns=1, total=4), id="by-the-sensors-count"),
        pytest.param(
            msgspec.structs.replace(Kernel().mkdir("/x", SOMEBODY), lost=4), id="by-a-raw-event"
        ),
    ],
)
def test_losses_leave_with_the_next_event_once(item: Input) -> None:
    watched, kernel = Watched(msgspec.structs.replace(HEADER, wait_ns=0)), Kernel()
    kernel.lost = 4
    watched.feed(item)
    watched.feed(item)

    for event in kernel.life(f"/docker/{CID}", runc(CID), V2):
        watched.feed(event)

    assert watched.chain.lost == 4
    assert [event.lost_before for event in watched.told] == [4, 0, 0]


def test_the_end_tells_what_is_not_told() -> None:
    watched, kernel = Watched(), Kernel()
    for event in kernel.birth("/demo/t1", runc("t1")):
        watched.feed(event)

    (create,) = watched.feed(Ending(boot_ns=watched.now_ns))

    assert create.event == "container_create"
    assert watched.chain.untold == 0
    assert watched.feed(Ending(boot_ns=watched.now_ns)) == []


def test_containers_that_come_and_go_leave_nothing_behind() -> None:
    watched, kernel = Watched(), Kernel()
    for number in range(101):
        for event in kernel.life(f"/demo/t{number}", runc(f"t{number}", pid=100 + 20 * number)):
            watched.feed(event)
        kernel.after(20)
        while watched.alarms:
            watched.ring()

    assert names(watched.told).count("create") == names(watched.told).count("remove") == 101
    for part in (watched.chain._lifecycle, watched.chain._stories):
        assert [
            name for name, value in vars(part).items() if isinstance(value, dict) and value
        ] == []


@pytest.mark.parametrize(
    ("wait_ns", "told_ms"),
    [
        pytest.param(500 * MS, 500, id="shorter"),
        pytest.param(50 * MS, 100, id="over-already"),
        pytest.param(5000 * MS, 5000, id="longer"),
    ],
)
def test_a_birth_that_waits_has_the_patience_that_is_asked_for_meanwhile(
    wait_ns: int, told_ms: int
) -> None:
    watched, kernel = Watched(), Kernel()
    for event in kernel.birth("/docker/" + CID, SOMEBODY, V2):
        watched.feed(event)
    born_ns = watched.inputs[-2].boot_ns  # type: ignore[union-attr]
    while any(alarm.boot_ns < born_ns + 1000 * MS for alarm in watched.alarms):
        watched.ring()  # from now on the wait alone decides

    watched.feed(Patience(boot_ns=born_ns + 100 * MS, wait_ns=wait_ns))
    while not watched.told:
        watched.ring()

    assert watched.now_ns == born_ns + told_ms * MS
    while watched.alarms:
        watched.ring()
    assert names(watched.told) == ["create"]


# --- the journal --------------------------------------------------------------------------

ANSWERS: st.SearchStrategy[Answer] = st.sampled_from(
    [
        Found(Facts(leads=Leads(bundle="/caf\udce9"))),
        Found(SPEC),
        Found(RECORD),
        Found(Facts(init_pid=7)),
        NotFound(),
        Unavailable("docker: connection refused"),
    ]
)
ODD = "\udce9t\u00e9 \x1b[2J"
LIVES = (
    ("/demo/t1", "t1"),
    (f"/demo{ODD}/t1", "t1"),
    (f"/docker{ODD}/{CID}", CID),
    ("/my/place", "job"),
)


def stream(data: st.DataObject, watched: Watched) -> Iterator[Input]:
    """Raw events of several containers, interleaved, with answers, alarms and the rest between."""
    kernel = Kernel()
    places = data.draw(st.lists(st.sampled_from(LIVES), min_size=1, unique=True))
    hierarchies = data.draw(st.sampled_from([V2, (3, 0)]))
    lives = [
        kernel.life(path, runc(container_id, pid=1000 * number), hierarchies)
        for number, (path, container_id) in enumerate(places, start=1)
    ]
    kernel.directories[0, "/there"] = 999
    yield Listed(
        boot_ns=kernel.boot_ns,
        container_id=ContainerId("old"),
        paths=((kernel.key("/there"), f"/there{ODD}"),),
        identity=None,
        leads=Leads(),
        init_pid=5,
        init_start_ns=6,
    )
    while lives:
        kinds = ["raw"] * 3 + ["answer"] * bool(watched.asks) + ["alarm"] * bool(watched.alarms)
        match data.draw(st.sampled_from([*kinds, "lost", "clock", "patience"])):
            case "raw":
                life = data.draw(st.sampled_from(lives))
                if (event := next(life, None)) is None:
                    lives.remove(life)
                else:
                    yield event
            case "answer":
                ask = watched.asks.pop(data.draw(st.integers(0, len(watched.asks) - 1)))
                answer = data.draw(ANSWERS)
                yield Reply(
                    boot_ns=watched.now_ns, serial=ask.serial, source=ask.source, answer=answer
                )
            case "alarm":
                alarm = watched.alarms.pop(0)
                yield Overdue(boot_ns=max(watched.now_ns, alarm.boot_ns), serial=alarm.serial)
            case "lost":
                kernel.lost += 1
                yield Lost(boot_ns=kernel.boot_ns, total=kernel.lost)
            case "patience":
                wait_ns = data.draw(st.sampled_from([0, 5 * MS, 2000 * MS]))
                yield Patience(boot_ns=watched.now_ns, wait_ns=wait_ns)
            case _:
                yield Clock(wall_offset_ns=HEADER.wall_offset_ns + data.draw(st.integers(0, 9)))
    yield Ending(boot_ns=watched.now_ns)


@given(st.data(), st.sampled_from([0, 5 * MS, 2000 * MS]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_journal_gives_the_same_events_again(
    tmp_path: Path, data: st.DataObject, wait_ns: int
) -> None:
    header = msgspec.structs.replace(HEADER, wait_ns=wait_ns)
    watched = Watched(header)
    with contextlib.closing(JournalWriter(tmp_path / "j", header)) as journal:
        for item in stream(data, watched):
            journal.write(item)
            watched.feed(item)

    read_header, items = read_journal(tmp_path / "j")
    again = Chain(read_header)

    assert [effect for item in items for effect in again.feed(item)] == watched.effects
    assert again.told == watched.chain.told
    told = watched.told
    assert [msgspec.json.decode(msgspec.json.encode(e), type=ContainerEvent) for e in told] == told
    births = {
        event.id for event in told if event.event in ("container_create", "existing_container")
    }
    assert len(births) == watched.chain.told["container_create"] + 1
    assert sum(isinstance(item, RawEvent) for item in watched.inputs) > 0


def test_one_that_nobody_wants_to_hear_of_is_known_and_not_told() -> None:
    """`--no-existing`: a later look does not take it for a birth that was missed."""
    chain, kernel = Chain(HEADER), Kernel()
    list(kernel.birth("/docker/" + CID, runc(CID), V2))
    found = Listed(
        boot_ns=kernel.boot_ns,
        container_id=ContainerId(CID),
        paths=((kernel.key("/docker/" + CID), "/docker/" + CID),),
        identity=None,
        leads=Leads(),
        quiet=True,
    )

    assert list(chain.feed(found)) == []
    assert chain.knows(found)
    assert list(chain.feed(kernel.rmdir("/docker/" + CID))) == []
    assert chain.untold == chain.living == 0
