"""Whom to ask, when to tell, in what order: by examples, and for any order of inputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from ctrwatch.core.changes import Begun, Born, Entered, Gone, Placed, Started, Told
from ctrwatch.core.cmdline import oci_call
from ctrwatch.core.describe import wall_ns
from ctrwatch.core.ledger import Reading
from ctrwatch.core.report import Report
from ctrwatch.core.shelf import Shelf
from ctrwatch.core.steps import MORE, STEPS
from ctrwatch.core.story import Alarm, Ask, Effect, Stories, Tell
from ctrwatch.event import ContainerEvent
from ctrwatch.model import (
    FINAL,
    NOWHERE,
    Answer,
    CgroupKey,
    ContainerId,
    Facts,
    Found,
    Identity,
    Leads,
    Limits,
    Listed,
    Missing,
    NotFound,
    Process,
    Runtime,
    Security,
    Task,
    Unavailable,
)
from tests.unit.builders import CID, MS, SYSTEMD, child, runc

BORN_NS = 1_000_000 * MS
OFFSET_NS = 1_700_000_000_000 * MS
WAIT_NS = 2000 * MS
V1, UNIFIED = CgroupKey(3, 1001), CgroupKey(0, 1010)
PATH = f"/docker/{CID}"

LEADS = Found(Facts(leads=Leads(bundle="/b")))
SPEC = Facts(security=Security(), limits=Limits(), process=Process())
RECORD = Facts(
    runtime=Runtime.DOCKER,
    image="docker.io/library/nginx:1.27",
    image_digest="sha256:" + "a" * 64,
    digest_kind="index",
    image_id="sha256:" + "c" * 64,
    name="web",
    labels={},
    sandbox=False,
    absent=dict.fromkeys(("pod_name", "pod_namespace", "pod_uid"), Missing.NOT_IN_POD),
)
TEN = (
    *("runtime", "container_id", "ctime", "container_image", "container_image_digest"),
    *("container_name", "pod_name", "pod_namespace", "pod_uid", "pod_sandbox"),
)
DOWN = Unavailable("docker: it answered 500")
AWAY = Unavailable("docker: connection refused", away=True)


def born(serial: int = 1, **changes: Any) -> Born:
    creator = runc(CID)
    event = Born(
        serial=serial,
        boot_ns=BORN_NS,
        identity=Identity(ContainerId(CID), Runtime.DOCKER, is_root=True),
        cgroup=CgroupKey(3, 1000 + serial),
        path=PATH,
        creator=creator,
        call=oci_call(creator.argv),
    )
    return msgspec.structs.replace(event, **changes)


def listed_birth(**changes: Any) -> Born:
    identity = born().identity
    listed = Listed(
        boot_ns=BORN_NS,
        container_id=identity.container_id,
        paths=((UNIFIED, PATH),),
        identity=identity,
        leads=Leads(bundle="/b"),
        init_pid=77,
        init_start_ns=5 * MS,
    )
    return born(creator=None, call=None, cgroup=UNIFIED, listed=listed, **changes)


def placed(at_ms: float = 10, serial: int = 1) -> Placed:
    boot_ns = BORN_NS + int(at_ms * MS)
    return Placed(serial=serial, boot_ns=boot_ns, cgroup=UNIFIED, path=PATH)


def entered(at_ms: float = 9, serial: int = 1) -> Entered:
    return Entered(serial=serial, boot_ns=BORN_NS + int(at_ms * MS), task=child(runc(CID)))


def begun(at_ms: float = 11, serial: int = 1) -> Begun:
    task = child(runc(CID), pid=7209)
    return Begun(serial=serial, boot_ns=BORN_NS + int(at_ms * MS), task=task)


def started(at_ms: float = 26, serial: int = 1) -> Started:
    boot_ns = BORN_NS + int(at_ms * MS)
    task = child(runc(CID), pid=7209)
    return Started(serial=serial, boot_ns=boot_ns, task=task, program="/bin/true")


def gone(at_ms: float = 40, serial: int = 1) -> Gone:
    return Gone(serial=serial, boot_ns=BORN_NS + int(at_ms * MS))


class Player:
    """Plays the enricher and the clock, and holds the laws of story.py's head."""

    def __init__(
        self,
        *,
        wait_ns: int = WAIT_NS,
        unified: bool = True,
        tells_init: bool = False,
        warm: int = 0,
    ) -> None:
        self.stories = Stories(
            host="h", boot_id="b", wall_offset_ns=OFFSET_NS, wait_ns=wait_ns, unified=unified,
            tells_init=tells_init, shelf=Shelf(warm),
        )  # fmt: skip
        self.asks: dict[tuple[int, str], Ask] = {}
        self.alarms: list[Alarm] = []
        self.events: list[ContainerEvent] = []
        self.now_ns = BORN_NS

    # --- inputs ---

    def change(self, *changes: Told) -> list[ContainerEvent]:
        told = len(self.events)
        for change in changes:
            self.now_ns = max(self.now_ns, change.boot_ns)
            self._take(self.stories.changed(change))
        return self.events[told:]

    def answer(
        self, source: str, answer: Answer, *, at_ms: float | None = None, serial: int = 1
    ) -> list[ContainerEvent]:
        told = len(self.events)
        if at_ms is not None:
            self.now_ns = BORN_NS + int(at_ms * MS)
        del self.asks[serial, source]
        self._take(self.stories.answered(serial, source, answer, self.now_ns))
        return self.events[told:]

    def ring(self, *, early_ns: int = 0) -> list[ContainerEvent]:
        """The next alarm."""
        told = len(self.events)
        alarm = min(self.alarms, key=lambda alarm: alarm.boot_ns)
        self.alarms.remove(alarm)
        self.now_ns = max(self.now_ns, alarm.boot_ns - early_ns)
        self._take(self.stories.overdue(alarm.serial, self.now_ns))
        return self.events[told:]

    def ring_all(self) -> list[ContainerEvent]:
        told = len(self.events)
        while self.alarms:
            self.ring()
        return self.events[told:]

    def back(self, source: str) -> None:
        self._take(self.stories.back(source))

    def finish(self) -> list[ContainerEvent]:
        told = len(self.events)
        self._take(self.stories.finish(self.now_ns))
        return self.events[told:]

    @property
    def open(self) -> list[str]:
        return sorted(source for _, source in self.asks)

    # --- laws ---

    def _take(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask(serial, source):
                    assert (serial, source) not in self.asks, "one open question for each source"
                    assert 0 <= effect.pause_ns <= 10_000 * MS
                    self.asks[serial, source] = effect
                case Alarm():
                    self.alarms.append(effect)
                case Tell():
                    self._hear(effect.event)
                case Report() | Reading():
                    pytest.fail("nobody reads what it uses here")
        untold = [
            serial for serial, story in self.stories._shelf.in_hand.items() if story.told is None
        ]
        assert len(untold) == self.stories.untold
        rings = [alarm.serial for alarm in self.alarms]
        assert all(rings.count(serial) in (1, 2) for serial in untold), (
            "an untold story has an alarm"
        )

    def _hear(self, event: ContainerEvent) -> None:
        before = [e for e in self.events if e.cgroup.path == event.cgroup.path]
        names = [e.event for e in before]
        is_birth = event.event in ("container_create", "existing_container")
        assert is_birth == (not names), "create first, and once"
        assert "container_remove" not in names, "nothing after the end"
        if event.event == "container_start":
            assert "container_start" not in names
        assert event.id not in {e.id for e in self.events}
        whole_and_explained(event)
        assert msgspec.json.decode(msgspec.json.encode(event), type=ContainerEvent) == event
        self.events.append(event)


def whole_and_explained(event: ContainerEvent) -> None:
    """Every empty one of the ten fields has its reason; what is missing is empty."""
    missing = event.evidence.missing
    for field in (*TEN, "security", "limits", "process", "creator", "init"):
        value = getattr(event, field)
        if value in ("", None, Runtime.UNKNOWN):
            assert field in missing, field
    assert (event.init.pid is None) == ("init.pid" in missing)
    for field in missing:
        top, _, below = field.partition(".")
        value = getattr(event, top)
        value = getattr(value, below) if below else value
        whole = field in {"creator", "cgroup"}  # objects: what is in them is empty
        assert not value or whole or value is Runtime.UNKNOWN, (field, value)
    open_fields = {
        field
        for field, reason in missing.items()
        if reason not in FINAL and field not in ("init.pid", "ctime", "creator", *MORE)
    }
    if event.evidence.status == "complete":
        assert not open_fields
    if event.evidence.status == "partial":
        assert open_fields


def names(events: Iterable[ContainerEvent]) -> list[str]:
    return [event.event.removeprefix("container_") for event in events]


# --- when it leaves -----------------------------------------------------------------------


def test_each_source_is_asked_when_the_one_before_has_answered() -> None:
    player = Player()

    player.change(born())
    assert player.open == ["creator"]
    player.answer("creator", LEADS, at_ms=1)
    assert player.open == ["bundle"]
    player.answer("bundle", Found(SPEC), at_ms=2)
    assert player.open == ["docker.files"]


def test_it_is_told_when_it_is_complete_placed_and_its_first_process_known() -> None:
    player = Player()
    player.change(born())
    player.answer("creator", LEADS, at_ms=1)
    player.answer("bundle", Found(SPEC), at_ms=2)
    assert player.answer("docker.files", Found(RECORD), at_ms=3) == []
    assert player.change(entered(9)) == []
    assert player.answer("init", Found(Facts(init_pid=7209)), at_ms=9.5) == []

    (create,) = player.change(placed(10))

    assert (create.event, create.evidence.status) == ("container_create", "complete")
    assert (create.cgroup.id, create.cgroup.hierarchy_id) == (UNIFIED.cgroup_id, 0)
    assert (create.init.pid, create.creator.pid) == (7209, 7199)
    assert create.ctime == BORN_NS + OFFSET_NS
    assert create.evidence.after_ms == 10
    assert create.evidence.sources["container_name"] == "docker.files"


def complete(player: Player, birth: Born | None = None) -> list[ContainerEvent]:
    told = player.change(birth or born())
    if (1, "creator") in player.asks:
        told += player.answer("creator", LEADS, at_ms=1)
    told += player.answer("bundle", Found(SPEC), at_ms=2)
    return told + player.answer("docker.files", Found(RECORD), at_ms=3)


@pytest.mark.parametrize(
    ("last", "at_ms"),
    [
        pytest.param(started(12), 12, id="its-first-instruction"),
        pytest.param(gone(12), 12, id="its-end"),
        pytest.param(None, 100, id="a-task-that-does-not-come"),
    ],
)
def test_a_complete_one_waits_no_longer_than(last: Told | None, at_ms: float) -> None:
    player = Player()
    assert complete(player) == []

    told = player.change(last) if last else player.ring()

    assert told[0].event == "container_create"
    assert told[0].evidence.after_ms == at_ms


NO_KIND = msgspec.structs.replace(
    RECORD, digest_kind=None, leads=Leads(digests=("sha256:" + "a" * 64,))
)
KIND = Found(Facts(digest_kind="index"))


def test_more_of_an_image_is_asked_for_and_waited_for_a_little() -> None:
    player = Player()
    player.change(born())
    player.answer("creator", LEADS, at_ms=1)
    player.answer("bundle", Found(SPEC), at_ms=2)
    player.answer("docker.files", Found(NO_KIND), at_ms=3)
    assert player.open == ["containerd"]
    player.change(entered(9))
    player.answer("init", Found(Facts(init_pid=7209)), at_ms=9.5)
    assert player.change(placed(10)) == []

    (create,) = player.answer("containerd", KIND, at_ms=11)

    assert (create.image.digest_kind, create.evidence.status) == ("index", "complete")
    assert create.evidence.sources["image.digest_kind"] == "containerd"


def test_an_event_is_complete_without_more_of_its_image() -> None:
    player = Player()
    player.change(born())
    player.answer("creator", LEADS, at_ms=1)
    player.answer("bundle", Found(SPEC), at_ms=2)
    player.answer("docker.files", Found(NO_KIND), at_ms=3)
    player.change(entered(9))
    player.answer("init", Found(Facts(init_pid=7209)), at_ms=9.5)
    player.change(placed(10))

    (create,) = player.ring()

    assert create.evidence.status == "complete"
    assert create.evidence.missing["image.digest_kind"] is Missing.DEADLINE
    (update,) = player.answer("containerd", KIND, at_ms=40)
    assert (update.event, update.changed) == ("container_update", ("image",))


def test_nobody_is_asked_for_more_of_an_image_that_is_none() -> None:
    player = Player()
    player.change(born())
    player.answer("creator", LEADS, at_ms=1)
    player.answer("bundle", Found(SPEC), at_ms=2)
    absent = {
        **RECORD.absent, "container_image_digest": Missing.NO_IMAGE,
        "container_image": Missing.NO_IMAGE,
    }  # fmt: skip
    nothing = dict.fromkeys(("image", "image_digest", "digest_kind", "image_id"))
    record = msgspec.structs.replace(RECORD, absent=absent, **nothing)
    player.answer("docker.files", Found(record), at_ms=3)

    assert player.open == []


def test_when_a_task_has_entered_the_wait_is_short() -> None:
    player = Player()
    complete(player)
    assert player.change(entered(12)) == []

    (create,) = player.ring()

    assert (create.event, create.evidence.after_ms) == ("container_create", 21)
    assert create.evidence.missing["init.pid"] is Missing.DEADLINE
    assert create.evidence.status == "complete"


def test_a_first_process_that_is_told_of_is_not_looked_for() -> None:
    player = Player(tells_init=True)
    complete(player)
    assert player.change(placed(8), entered(9)) == []
    assert player.open == []

    (create,) = player.change(begun(11))

    assert (create.init.pid, create.evidence.after_ms) == (7209, 11)
    assert create.evidence.sources["init.pid"] == "kernel"
    assert player.ring_all() == []
    assert player.open == []


def test_one_that_nobody_tells_of_is_looked_for_a_little_later() -> None:
    player = Player(tells_init=True)  # it has no pid namespace of its own
    complete(player)
    player.change(placed(8), entered(9))

    assert player.ring() == []
    assert (player.now_ns - BORN_NS, player.open) == (14 * MS, ["init"])
    (create,) = player.answer("init", Found(Facts(init_pid=7209)))

    assert create.evidence.sources["init.pid"] == "init"


def test_without_a_unified_hierarchy_none_is_waited_for() -> None:
    player = Player(unified=False)
    complete(player)
    player.change(entered(9))

    (create,) = player.answer("init", Found(Facts(init_pid=7209)), at_ms=10)

    assert (create.event, create.cgroup.version) == ("container_create", 1)


def test_an_existing_container_is_told_when_it_is_complete() -> None:
    player = Player()

    (existing,) = complete(player, listed_birth())

    assert existing.event == "existing_container"
    assert existing.ctime == 5 * MS + OFFSET_NS
    assert existing.evidence.missing["creator"] is Missing.BEFORE_US
    assert (existing.evidence.status, existing.evidence.after_ms) == ("complete", None)


def test_an_existing_container_does_not_wait_for_what_it_has_not() -> None:
    """No directory in the unified hierarchy, and nobody knows its first process."""
    birth = listed_birth()
    assert birth.listed is not None
    found = msgspec.structs.replace(birth.listed, init_pid=None)
    player = Player()

    (existing,) = complete(player, msgspec.structs.replace(birth, listed=found, cgroup=V1))

    assert existing.event == "existing_container"
    assert existing.evidence.missing["init.pid"] is Missing.NOT_FOUND


def test_who_has_not_been_asked_may_still_lead_to_the_bundle() -> None:
    player = Player(wait_ns=0)

    (create,) = player.change(born(call=None, creator=SYSTEMD))

    assert player.open == ["docker.files"]
    assert create.evidence.missing["security"] is Missing.DEADLINE


def test_at_the_deadline_it_is_told_as_it_is() -> None:
    player = Player()
    player.change(born())
    player.answer("creator", LEADS, at_ms=1)
    player.answer("bundle", Found(SPEC), at_ms=2)

    assert player.ring() == []
    (create,) = player.ring()

    assert create.evidence.after_ms == 2000
    assert create.evidence.status == "partial"
    assert create.evidence.missing["container_name"] is Missing.DEADLINE
    assert create.security is not None
    assert player.alarms == []


def test_an_alarm_that_rings_early_rings_again() -> None:
    """A timer of the event loop counts in floats: it may ring some nanoseconds too soon."""
    player = Player()
    player.change(born())
    player.ring(early_ns=3)
    player.ring(early_ns=0)

    assert player.ring(early_ns=5) == []
    assert names(player.ring()) == ["create"]


def test_wait_zero_tells_at_once_and_updates_after() -> None:
    player = Player(wait_ns=0)

    (create,) = player.change(born())
    assert (create.evidence.status, create.evidence.after_ms) == ("unverified", 0)
    assert create.evidence.missing["container_name"] is Missing.DEADLINE
    assert create.evidence.missing["security"] is Missing.DEADLINE
    assert create.runtime is Runtime.DOCKER  # its path's word
    assert player.alarms == []

    assert player.answer("creator", LEADS, at_ms=1) == []
    (spec,) = player.answer("bundle", Found(SPEC), at_ms=2)
    (record,) = player.answer("docker.files", Found(RECORD), at_ms=3)

    assert (spec.event, spec.changed) == ("container_update", ("security", "limits", "process"))
    assert record.changed == (
        *("container_image", "container_image_digest", "container_name", "image"),
    )
    assert (spec.evidence.status, record.evidence.status) == ("partial", "complete")
    assert [event.id.removeprefix(create.id) for event in player.events] == [
        *("", "-update-1", "-update-2")
    ]
    assert player.open == []


def test_an_update_may_bring_nothing_but_certainty() -> None:
    """A locally built image has no digest: the field stays as it was, but now for good."""
    player = Player(wait_ns=0)
    player.change(born())
    player.answer("creator", LEADS, at_ms=1)
    player.answer("bundle", Found(SPEC), at_ms=2)
    some = msgspec.structs.replace(RECORD, image_digest=None, digest_kind=None, runtime=None)
    player.answer("docker.files", Found(some), at_ms=3)
    last = Facts(
        runtime=Runtime.DOCKER, absent={"container_image_digest": Missing.NO_REGISTRY_DIGEST}
    )

    (update,) = player.answer("docker", Found(last), at_ms=4)

    assert (update.changed, update.evidence.status) == ((), "complete")
    assert update.evidence.missing["container_image_digest"] is Missing.NO_REGISTRY_DIGEST


def test_a_directory_that_comes_after_the_telling_is_an_update() -> None:
    player = Player(wait_ns=0)
    player.change(born())

    (update,) = player.change(placed(10))

    assert (update.event, update.changed) == ("container_update", ("cgroup",))


# --- order --------------------------------------------------------------------------------


def test_a_short_life_is_told_in_order_when_its_create_is_complete() -> None:
    player = Player()
    player.change(born(), placed(1), entered(2), started(3), gone(4))
    assert player.events == []

    player.answer("init", NotFound(), at_ms=5)
    player.answer("creator", LEADS, at_ms=5)
    player.answer("bundle", Found(SPEC), at_ms=6)
    told = player.answer("docker.files", Found(RECORD), at_ms=7)

    assert names(told) == ["create", "start", "remove"]
    times = [event.time for event in told]
    assert times == sorted(times)
    assert [event.id.removeprefix(told[0].id) for event in told] == ["", "-start", "-remove"]
    assert len(player.stories) == 0


def test_a_short_life_that_nobody_knows_is_told_at_its_deadline() -> None:
    player = Player()
    player.change(born(), gone(4))
    for _ in range(3):
        player.answer("creator", NotFound())

    told = player.ring_all()

    assert names(told) == ["create", "remove"]
    assert told[0].evidence.after_ms == 2000
    assert len(player.stories) == 0


def test_answers_after_the_end_are_ignored() -> None:
    player = Player()
    player.change(born(), gone(4))
    player.ring_all()

    assert ("creator" in player.open, player.answer("creator", LEADS)) == (True, [])
    assert player.asks == {}


def test_a_living_container_that_is_told_goes_with_its_end() -> None:
    player = Player()
    complete(player)
    player.ring()
    assert len(player.stories) == 1

    assert names(player.change(started(26), gone(40))) == ["start", "remove"]
    assert len(player.stories) == 0


def test_finish_tells_what_is_not_told() -> None:
    player = Player()
    player.change(born(), born(2, path="/b", boot_ns=BORN_NS + 1), gone(4, serial=2))

    told = player.finish()

    assert names(told) == ["create", "create", "remove"]
    assert {event.evidence.missing["container_name"] for event in told} == {Missing.DEADLINE}
    assert player.finish() == []
    assert len(player.stories) == 1


# --- questions ----------------------------------------------------------------------------


def test_a_source_that_does_not_know_yet_is_asked_again_with_growing_pauses() -> None:
    player = Player()
    player.change(born())
    player.answer("creator", NotFound(), at_ms=0)
    pauses = []

    for _ in range(6):
        pauses.append(player.asks[1, "creator"].pause_ns // MS)
        player.answer("creator", NotFound())

    assert pauses == [2, 4, 8, 16, 32, 64]


def test_who_was_never_asked_is_asked_however_late() -> None:
    """ctrwatch was stopped for some seconds: the deadline is over before the first question."""
    player = Player()
    player.change(born(), entered(), placed())
    player.now_ns = BORN_NS + 3500 * MS
    (create,) = player.ring_all()
    assert create.evidence.missing["container_image"] is Missing.DEADLINE

    player.answer("creator", LEADS, at_ms=3501)
    player.answer("bundle", Found(SPEC), at_ms=3502)
    player.answer("docker.files", Found(RECORD), at_ms=3503)

    assert player.events[-1].evidence.status == "complete"
    assert player.events[-1].event == "container_update"


def test_who_does_not_know_it_so_late_is_asked_once() -> None:
    player = Player()
    player.change(born())
    player.now_ns = BORN_NS + 3500 * MS
    player.ring_all()

    player.answer("creator", LEADS, at_ms=3501)
    player.answer("bundle", NotFound(), at_ms=3502)

    assert "bundle" not in player.open


@pytest.mark.parametrize(
    ("answer", "until_s"),
    [
        pytest.param(NotFound(), 2, id="who-does-not-know-it"),
        pytest.param(DOWN, 600, id="what-can-not-be-read"),
        pytest.param(AWAY, 0, id="who-is-away"),
    ],
)
def test_nobody_is_asked_for_ever(answer: Answer, until_s: int) -> None:
    player = Player(wait_ns=0)
    player.change(born())
    asked = 0

    while player.asks:
        (_, source), ask = min(player.asks.items(), key=lambda item: item[1].pause_ns)
        player.now_ns += ask.pause_ns
        player.answer(source, answer)
        asked += 1

    age_s = (player.now_ns - BORN_NS) / 1e9
    assert until_s <= age_s < until_s + 45  # one last pause of 10 s for each source
    assert asked < 400


def test_who_is_away_gives_the_reason_and_its_later_answer_an_update() -> None:
    player = Player()
    player.change(born(call=None, creator=SYSTEMD))
    assert player.open == ["docker.files"]
    player.answer("docker.files", DOWN, at_ms=1)
    assert player.open == ["docker", "docker.files"]
    player.answer("docker", DOWN, at_ms=2)

    (create,) = player.ring_all()
    assert create.evidence.missing["container_name"] is Missing.UNAVAILABLE

    (update,) = player.answer("docker", Found(RECORD), at_ms=3000)
    assert update.event == "container_update"
    assert set(update.changed) == {
        *("container_image", "container_image_digest", "container_name", "image")
    }
    assert update.evidence.missing["security"] is Missing.NOT_FOUND


def test_who_was_away_is_asked_again_when_it_is_back_however_late() -> None:
    player = Player()
    player.change(born(call=None, creator=SYSTEMD))
    player.answer("docker.files", NotFound(), at_ms=1)
    player.answer("docker", AWAY, at_ms=2)
    player.ring_all()
    for source in player.open:  # a last time, too late to be asked again
        player.answer(source, AWAY if source == "docker" else NotFound(), at_ms=3000)
    assert player.open == []

    player.now_ns = BORN_NS + 3_600_000 * MS  # an hour
    player.back("containerd")  # which does not keep Docker's containers
    player.back("docker")
    player.back("docker")  # it is being asked already
    assert player.open == ["docker"]
    (update,) = player.answer("docker", Found(RECORD))
    assert update.event == "container_update"
    assert "container_image" in update.changed
    player.back("docker")
    assert "docker" not in player.open, "what it knew it has said"


def test_a_question_that_brings_a_daemon_down_is_put_with_growing_pauses() -> None:
    player = Player(wait_ns=0)
    player.change(born())
    while player.asks:
        (_, source), ask = next(iter(player.asks.items()))
        player.now_ns += ask.pause_ns
        player.answer(source, AWAY)
    pauses = []
    for _ in range(15):
        player.back("creator")
        pauses.append(player.asks[1, "creator"].pause_ns // MS)
        player.answer("creator", AWAY)

    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == 10_000


@pytest.mark.parametrize(
    ("answers", "reason", "status"),
    [
        pytest.param({}, Missing.DEADLINE, "unverified", id="nobody-answered"),
        pytest.param(
            {"docker.files": DOWN}, Missing.DEADLINE, "unverified", id="one-has-not-answered"
        ),
        pytest.param(
            {"docker.files": NotFound(), "docker": DOWN},
            Missing.UNAVAILABLE,
            "unverified",
            id="one-is-away",
        ),
        pytest.param(
            {"docker.files": NotFound(), "docker": NotFound()},
            Missing.NO_EVIDENCE,
            "unverified",
            id="nobody-knows-it",
        ),
        pytest.param(
            {"docker.files": Found(Facts(name="web")), "docker": NotFound()},
            Missing.NOT_FOUND,
            "partial",
            id="who-knows-it-does-not-say",
        ),
    ],
)
def test_reasons(answers: dict[str, Answer], reason: Missing, status: str) -> None:
    player = Player()
    player.change(born(call=None, creator=SYSTEMD))
    for source, answer in answers.items():
        player.answer(source, answer, at_ms=1)

    (create,) = player.ring_all()

    assert create.evidence.missing["container_image"] is reason
    assert create.evidence.status == status


def test_an_answer_that_nobody_asked_for_is_nothing() -> None:
    player = Player()
    player.change(born())

    player.answer("creator", LEADS)
    assert player.stories.answered(1, "creator", NotFound(), BORN_NS) == []
    assert player.stories.answered(1, "docker", Found(RECORD), BORN_NS) == []
    assert player.stories.answered(1, "nobody", Found(RECORD), BORN_NS) == []
    assert player.stories.answered(9, "creator", LEADS, BORN_NS) == []


def test_a_pod_that_the_path_proves_is_known_without_asking() -> None:
    player = Player(wait_ns=0)
    identity = born().identity._replace(pod_uid="u-1", runtime=Runtime.UNKNOWN)

    (create,) = player.change(born(identity=identity))

    assert (create.pod_uid, create.evidence.sources["pod_uid"]) == ("u-1", "path")
    assert create.evidence.missing["runtime"] is Missing.DEADLINE


# --- ids, clocks, losses ------------------------------------------------------------------


def test_a_birth_keeps_the_id_that_an_earlier_ctrwatch_gave_it() -> None:
    """Its create was told before its directory in the unified hierarchy was made."""
    before, after = Player(wait_ns=0), Player(wait_ns=0)
    (create,) = before.change(born())
    found = listed_birth()
    assert found.listed is not None
    known = msgspec.structs.replace(found.listed, birth=create.id)

    (existing,) = after.change(msgspec.structs.replace(found, listed=known))

    assert existing.cgroup.id != create.cgroup.id
    assert existing.id == create.id


def test_the_same_birth_has_the_same_id_whoever_tells_of_it() -> None:
    one, other = Player(), Player()
    complete(one)
    one.change(placed(4))
    (create,) = one.ring()

    (existing,) = complete(other, listed_birth())

    assert create.id == existing.id


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"cgroup": CgroupKey(3, 2)}, id="another-directory"),
        pytest.param({"cgroup": CgroupKey(4, 1001)}, id="another-hierarchy"),
        pytest.param(
            {"identity": Identity(ContainerId("web"), Runtime.DOCKER, is_root=True)},
            id="another-container",
        ),
    ],
)
def test_another_birth_has_another_id(changes: dict[str, Any]) -> None:
    ids = {Player(wait_ns=0).change(birth)[0].id for birth in (born(), born(**changes))}

    assert len(ids) == 2


def test_a_step_of_the_clock_does_not_move_a_birth() -> None:
    player = Player()
    player.change(born())
    player.stories.wall_offset_ns += 3600 * 10**9

    player.change(gone(4))
    create, remove = player.ring_all()

    assert create.ctime == remove.ctime == wall_ns(create.time) == BORN_NS + OFFSET_NS
    assert wall_ns(remove.time) == BORN_NS + 4 * MS + OFFSET_NS + 3600 * 10**9


def test_losses_are_told_once_by_the_next_event() -> None:
    player = Player(wait_ns=0)
    player.stories.lost = 3
    player.change(born())
    player.answer("creator", LEADS, at_ms=1)
    player.stories.lost = 5
    player.answer("bundle", Found(Facts()), at_ms=2)  # verified: an update
    player.stories.lost = 6
    player.answer("docker.files", NotFound(), at_ms=3)  # no event
    player.change(started(26), gone(40))

    assert [(event.event, event.lost_before) for event in player.events] == [
        ("container_create", 3),
        ("container_update", 2),
        ("container_start", 1),
        ("container_remove", 0),
    ]


# --- any order ----------------------------------------------------------------------------

SOURCES = [step.source for step in STEPS]
FACTS = st.sampled_from(
    [
        Facts(),
        SPEC,
        RECORD,
        Facts(leads=Leads(bundle="/b")),
        Facts(runtime=Runtime.PODMAN),
        Facts(image="", name="web"),
        Facts(absent={"container_image": Missing.NO_IMAGE}),
        Facts(init_pid=5),
        Facts(labels={"a": "b"}, sandbox=True, created_ns=7),
    ]
)
ANSWERS: st.SearchStrategy[Answer] = st.builds(Found, FACTS) | st.sampled_from(
    [NotFound(), DOWN, AWAY]
)


def course(serial: int, data: st.DataObject) -> list[Told]:
    """A container's own changes, in an order that the lifecycle gives."""
    path, key = f"/c{serial}", CgroupKey(3, serial)
    known = data.draw(st.booleans(), label="the runtime called")
    runtime = data.draw(st.sampled_from([Runtime.DOCKER, Runtime.PODMAN, Runtime.UNKNOWN]))
    identity = Identity(ContainerId(f"c{serial}"), runtime, is_root=True)
    if data.draw(st.booleans(), label="listed"):
        birth = listed_birth(serial=serial, path=path, identity=identity)
        return [birth, *data.draw(st.sampled_from([[], [gone(serial=serial)]]))]
    creator: Task = runc(f"c{serial}") if known else SYSTEMD
    call = oci_call(creator.argv)
    birth = born(serial, path=path, cgroup=key, identity=identity, creator=creator, call=call)
    middle: list[Told] = data.draw(
        st.permutations([entered(serial=serial), begun(serial=serial), started(serial=serial)])
    )
    at = next(n for n, change in enumerate(middle) if isinstance(change, Started))
    middle = middle[: data.draw(st.integers(0, at + 1))]
    place = msgspec.structs.replace(placed(serial=serial), path=path)
    middle = [*middle, *data.draw(st.sampled_from([[], [place]]))]
    return [birth, *middle, *data.draw(st.sampled_from([[], [gone(serial=serial)]]))]


@given(st.data())
@settings(deadline=None)
def test_the_laws_hold_in_any_order_of_changes_answers_and_alarms(data: st.DataObject) -> None:
    player = Player(
        wait_ns=data.draw(st.sampled_from([0, 5 * MS, WAIT_NS])),
        tells_init=data.draw(st.booleans()),
        warm=data.draw(st.sampled_from([0, 1, 64])),
    )
    courses = [course(serial, data) for serial in range(1, data.draw(st.integers(1, 3)) + 1)]
    ends = {changes[0].serial for changes in courses if isinstance(changes[-1], Gone)}
    for _ in range(40):
        kinds = ["change"] * any(courses) + ["answer"] * bool(player.asks)
        kinds += ["alarm"] * bool(player.alarms) + ["time", "loss"]
        match data.draw(st.sampled_from(kinds)):
            case "change":
                changes = data.draw(st.sampled_from([c for c in courses if c]))
                change = msgspec.structs.replace(changes.pop(0), boot_ns=player.now_ns)
                player.change(change)
            case "answer":
                serial, source = data.draw(st.sampled_from(sorted(player.asks)))
                player.answer(source, data.draw(ANSWERS), serial=serial)
            case "alarm":
                player.ring(early_ns=data.draw(st.sampled_from([0, 1])))
            case "time":
                player.now_ns += data.draw(st.sampled_from([MS, 10 * MS, 5000 * MS]))
            case _:
                player.stories.lost += 1
    for changes in courses:
        player.change(*(msgspec.structs.replace(c, boot_ns=player.now_ns) for c in changes))

    player.ring_all()

    told = [e for e in player.events if e.event in ("container_create", "existing_container")]
    removed = [e for e in player.events if e.event == "container_remove"]
    assert (len(told), len(removed)) == (len(courses), len(ends))
    assert len(player.stories) == len(courses) - len(ends)
    assert sum(event.lost_before for event in player.events) <= player.stories.lost
    for serial, source in sorted(player.asks):
        player.answer(source, NotFound(), serial=serial)
    assert {serial for serial, _ in player.asks}.isdisjoint(ends)


# --- of which the birth was not heard -------------------------------------------------------


def unheard_birth(**changes: Any) -> Born:
    birth = listed_birth()
    assert birth.listed is not None
    return msgspec.structs.replace(
        birth, listed=msgspec.structs.replace(birth.listed, unheard=True, **changes)
    )


def test_a_birth_that_was_not_heard_is_announced_as_one() -> None:
    player = Player()
    player.change(unheard_birth())
    player.answer("bundle", Found(SPEC))
    (create,) = player.answer("docker.files", Found(RECORD))

    assert create.event == "container_create"
    assert create.evidence.missing["creator"] is Missing.UNHEARD
    assert create.evidence.status == "complete"
    assert create.evidence.after_ms is None


def test_one_that_has_ended_unheard_is_told_with_its_end() -> None:
    player = Player()
    birth = unheard_birth(
        paths=(), source="docker", runtime=Runtime.DOCKER, created_ns=7, leads=Leads()
    )
    player.change(msgspec.structs.replace(birth, cgroup=NOWHERE, path=""), gone(at_ms=0))
    player.answer("docker.files", Found(RECORD))
    create, remove = player.ring_all() or player.events

    assert [create.event, remove.event] == ["container_create", "container_remove"]
    assert create.ctime == 7
    assert create.evidence.sources["ctime"] == "docker"
    assert create.cgroup.id is None
    assert create.evidence.missing["cgroup"] is Missing.UNHEARD
    assert create.evidence.status == "partial"  # what it might do stood in its bundle


def test_one_that_was_told_before_and_is_gone() -> None:
    player = Player()
    player.change(born())
    (told,) = player.ring_all()
    (effect,) = player.stories.ended(told, BORN_NS + 1000 * MS)

    assert isinstance(effect, Tell)
    assert effect.event.event == "container_remove"
    assert effect.event.id == f"{told.id}-remove"
    assert effect.event.container_id == told.container_id
    assert effect.event.time > told.time


def test_one_that_has_gone_and_that_nobody_knows_is_told_at_once() -> None:
    player = Player()
    player.change(born(call=None, creator=SYSTEMD), gone(at_ms=5))
    player.answer("docker.files", NotFound(), at_ms=6)
    create, remove = player.answer("docker", NotFound(), at_ms=7)

    assert [create.event, remove.event] == ["container_create", "container_remove"]
    assert create.evidence.status == "unverified"


def test_one_that_has_gone_waits_for_who_can_not_answer_yet() -> None:
    player = Player()
    player.change(born(call=None, creator=SYSTEMD), gone(at_ms=5))
    player.answer("docker.files", NotFound(), at_ms=6)

    assert player.answer("docker", DOWN, at_ms=7) == []
    assert next(event.event for event in player.ring_all()) == "container_create"
