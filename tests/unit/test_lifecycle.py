"""One container, once, in order: by examples from real streams, and for any stream at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from ctrwatch.core.changes import Begun, Born, Change, Entered, Gone, Look, Placed, Told
from ctrwatch.core.lifecycle import Lifecycle
from ctrwatch.model import (
    NOWHERE,
    CgroupKey,
    ContainerId,
    Identity,
    Kind,
    Leads,
    Listed,
    RawEvent,
    Runtime,
    Task,
)
from tests.unit.builders import CID, HYBRID, OTHER, SOMEBODY, SYSTEMD, V2, Kernel, child, runc

WEB = "/default/web"
DOCKER = f"/docker/{CID}"


def feed(
    lifecycle: Lifecycle, events: Iterable[RawEvent], processes: Iterable[Task] = ()
) -> list[Told]:
    """Who looks at a process that is none of *processes* finds that it has ended."""
    by_pid = {process.pid: process for process in processes}
    changes: list[Told] = []
    for event in events:
        for change in lifecycle.feed(event):
            if isinstance(change, Look):
                answer = lifecycle.looked(change.cgroup, by_pid.get(change.task.ppid))
                changes += (told for told in answer if not isinstance(told, Look))
            else:
                changes.append(change)
    return changes


def names(changes: Iterable[Change]) -> list[str]:
    return [type(change).__name__ for change in changes]


def births(changes: Iterable[Change]) -> list[Born]:
    return [change for change in changes if isinstance(change, Born)]


def remembered(lifecycle: Lifecycle) -> dict[str, int]:
    """What it keeps, by the name of the place; nothing when nothing lives."""
    places = {**vars(lifecycle), **vars(lifecycle._living)}
    kept = {name: value for name, value in places.items() if hasattr(value, "__len__")}
    kept.pop("_mounted", None)
    return {name: len(value) for name, value in kept.items() if len(value)}


# --- one container ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "maker"),
    [
        pytest.param("/demo/t1", runc("t1"), id="ctr-free-name"),
        pytest.param("/t1", runc("t1", command="run"), id="runc-run-at-the-top"),
        pytest.param(DOCKER, runc(CID), id="docker"),
        pytest.param(DOCKER, SYSTEMD, id="made-by-systemd"),
        pytest.param(f"/libpod_parent/libpod-{CID}", runc(CID, program="crun"), id="podman-crun"),
        pytest.param("/my/own/place", runc("t1"), id="place-not-named-by-the-id"),
        pytest.param(f"/my/{OTHER}", runc("t1"), id="place-named-by-another-id"),
        pytest.param("/t1/t1", runc("t1"), id="namespace-of-the-same-name"),
        pytest.param(f"{DOCKER}/default/t1", runc("t1"), id="free-name-inside-of-docker"),
    ],
)
@pytest.mark.parametrize(
    "hierarchies", [pytest.param(HYBRID, id="hybrid"), pytest.param(V2, id="v2")]
)
def test_a_life_is_one_birth_one_entry_one_start_one_end(
    path: str, maker: Task, hierarchies: Sequence[int]
) -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    for hierarchy in hierarchies:  # what somebody else made before
        kernel.directories[hierarchy, DOCKER.rpartition("/")[0]] = 2
        if path.startswith(DOCKER + "/"):
            kernel.directories[hierarchy, DOCKER] = 3

    changes = feed(lifecycle, kernel.life(path, maker, hierarchies))

    told = [name for name in names(changes) if name != "Placed"]
    assert told == ["Born", "Entered", "Started", "Gone"]
    placed = [change for change in changes if isinstance(change, Born | Placed)][-1]
    assert (placed.path, placed.cgroup.hierarchy_id) == (path, 0)
    assert len(lifecycle) == 0
    kept = remembered(lifecycle)
    parents = kept.pop("_candidates", 0)
    assert (kept, parents) == ({}, 0)


def test_ten_directories_are_one_birth_and_the_unified_one_is_told() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()

    changes = feed(lifecycle, kernel.birth("/demo/t1", runc("t1")))

    assert names(changes) == ["Born", "Entered", "Placed"]
    born, entered, placed = changes
    assert isinstance(born, Born)
    assert isinstance(entered, Entered)
    assert isinstance(placed, Placed)
    assert born.cgroup == kernel.key("/demo/t1", HYBRID[0])
    assert placed.cgroup == kernel.key("/demo/t1", 0)
    assert (entered.task.pid, entered.task.ppid) == (7207, 7199)
    assert born.call is not None
    assert born.call.bundle.endswith("/demo/t1")


@pytest.mark.parametrize("removed", range(len(HYBRID)))
def test_it_is_gone_with_its_last_directory(removed: int) -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.birth(WEB, runc("web")))

    changes = feed(lifecycle, list(kernel.end(WEB))[: removed + 1])

    assert names(changes) == (["Gone"] if removed + 1 == len(HYBRID) else [])


def test_what_is_left_in_a_hierarchy_that_is_not_mounted_keeps_nothing_alive() -> None:
    lifecycle, kernel = Lifecycle(mounted=frozenset(V2)), Kernel()
    changes = feed(lifecycle, kernel.birth(WEB, runc("web"), hierarchies=(0, 7)))

    changes += feed(lifecycle, [kernel.rmdir(WEB)])

    assert names(changes) == ["Born", "Entered", "Gone"]
    assert remembered(lifecycle) == {}
    assert feed(lifecycle, [kernel.rmdir(WEB, hierarchy=7)]) == []


@pytest.mark.parametrize("hierarchies", [(7,), (7, 0)], ids=["alone", "first"])
def test_a_hierarchy_that_is_mounted_later_has_containers_too(hierarchies: tuple[int]) -> None:
    lifecycle, kernel = Lifecycle(mounted=frozenset(V2)), Kernel()

    changes = feed(lifecycle, kernel.life(WEB, runc("web"), hierarchies))

    told = [name for name in names(changes) if name != "Placed"]
    assert told == ["Born", "Entered", "Started", "Gone"]
    assert len(lifecycle) == 0


@pytest.mark.parametrize("below", ["init", "container", "init.scope", "a/b", CID, f"docker/{CID}"])
@pytest.mark.parametrize(
    ("path", "maker"),
    [pytest.param(DOCKER, runc(CID), id="docker"), pytest.param(WEB, runc("web"), id="free-name")],
)
def test_children_make_change_and_end_nothing(below: str, path: str, maker: Task) -> None:
    """Made by the runtime's process, by a child that it forked, or by the container itself."""
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.birth(path, maker))
    below = below.replace(CID, "web") if path == WEB else below
    forked = msgspec.structs.replace(maker, pid=maker.pid + 1, ppid=maker.pid)

    changes = [
        change
        for task in (maker, forked, SOMEBODY)
        for hierarchy in HYBRID
        for event in (
            kernel.mkdir(f"{path}/{below}", task, hierarchy),
            kernel.attach(f"{path}/{below}", child(maker), hierarchy),
            kernel.rmdir(f"{path}/{below}", task, hierarchy),
        )
        for change in feed(lifecycle, [event], [maker, forked])
    ]

    assert changes == []
    assert len(lifecycle) == 1


def test_the_first_instruction_may_be_in_a_child() -> None:
    """crun 1.8 moves the container's first task to `container` below its cgroup."""
    lifecycle, kernel = Lifecycle(), Kernel()
    crun = runc(CID, program="crun")
    feed(lifecycle, kernel.birth(f"/libpod-{CID}", crun, V2))
    feed(lifecycle, [kernel.mkdir(f"/libpod-{CID}/container", crun)])

    changes = lifecycle.feed(kernel.exec(f"/libpod-{CID}/container", child(crun)))

    assert names(changes) == ["Started"]


def test_restart_is_a_new_birth_after_the_old_end() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    first = feed(lifecycle, kernel.life(DOCKER, runc(CID)))

    second = feed(lifecycle, kernel.life(DOCKER, runc(CID, pid=8000)))

    assert names(first) == names(second)
    assert [change.serial for change in (*first, *second)] == [1] * 5 + [2] * 5


def test_restart_before_all_of_the_old_directories_are_gone() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.birth(DOCKER, runc(CID)))
    old = list(kernel.end(DOCKER))
    feed(lifecycle, old[:4])

    again = feed(lifecycle, kernel.birth(DOCKER, runc(CID, pid=8000)))
    late = feed(lifecycle, old[4:])

    assert [(type(change).__name__, change.serial) for change in again] == [
        ("Gone", 1),
        ("Born", 2),
        ("Entered", 2),
        ("Placed", 2),
    ]
    assert late == []
    assert len(lifecycle) == 1


def test_restart_in_a_hierarchy_that_the_old_one_has_left() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.birth(DOCKER, runc(CID)))
    feed(lifecycle, list(kernel.end(DOCKER))[:4])

    again = lifecycle.feed(kernel.mkdir(DOCKER, runc(CID, pid=8000), hierarchy=0))

    assert names(again) == ["Gone", "Born"]


def test_a_task_that_enters_after_the_start_is_not_the_first() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    maker = runc(CID)
    feed(lifecycle, [kernel.mkdir(DOCKER, maker)])  # the entry was lost

    changes = feed(lifecycle, [kernel.exec(DOCKER, child(maker)), kernel.attach(DOCKER, SOMEBODY)])

    assert names(changes) == ["Started"]


def test_its_first_process_is_told_once_and_before_it_runs_anything() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    maker = runc(CID)
    first = child(maker)
    feed(lifecycle, [kernel.mkdir(DOCKER, maker), kernel.attach(DOCKER, child(maker))])

    changes = feed(lifecycle, [kernel.init(DOCKER, first), kernel.init(DOCKER, SOMEBODY)])
    changes += feed(lifecycle, [kernel.exec(DOCKER, first), kernel.init(DOCKER, SOMEBODY)])

    assert names(changes) == ["Begun", "Started"]
    assert isinstance(changes[0], Begun)
    assert changes[0].task == first


def test_a_namespace_of_the_same_name_whose_old_container_did_not_end() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.birth("/web/web", runc("web"), V2))
    del kernel.directories[0, "/web"]  # these removals were lost

    again = feed(lifecycle, kernel.life("/web/web", runc("web", pid=8000), V2))

    assert [(type(change).__name__, change.serial) for change in again] == [
        *(("Born", 2), ("Gone", 1), ("Placed", 2), ("Entered", 2), ("Started", 2), ("Gone", 2))
    ]
    assert remembered(lifecycle) == {}


@pytest.mark.parametrize("place", [f"/user.slice/docker/{CID}", f"/user.slice/docker-{CID}.scope"])
def test_a_users_directory_of_that_name_does_not_touch_the_container(place: str) -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.birth(DOCKER, runc(CID), FEW[:2]))
    user = msgspec.structs.replace(SOMEBODY, uid=1000)

    changes = feed(
        lifecycle,
        [
            *(kernel.mkdir(place, user, hierarchy) for hierarchy in FEW),
            *(kernel.rmdir(place, user, hierarchy) for hierarchy in FEW),
        ],
    )

    assert {change.serial for change in changes} == {2}
    assert len(lifecycle) == 1


def test_restart_whose_removal_was_lost_is_a_new_birth() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.birth(WEB, runc("web"), V2))

    again = feed(lifecycle, kernel.birth(WEB, runc("web", pid=8000), V2))

    assert names(again) == ["Gone", "Born", "Entered"]


# --- several containers -------------------------------------------------------------------


def test_a_free_name_in_two_namespaces_is_two_containers() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    one = kernel.life("/demo/web", runc("web"))
    two = kernel.life("/prod/web", runc("web", pid=8000))

    changes = feed(lifecycle, [event for pair in zip(one, two, strict=True) for event in pair])

    assert Counter(names(changes)) == Counter(
        {"Born": 2, "Entered": 2, "Started": 2, "Gone": 2, "Placed": 2}
    )
    assert remembered(lifecycle) == {}


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        pytest.param(DOCKER, f"{DOCKER}/docker/{OTHER}", (CID,), id="both-proven"),
        pytest.param(DOCKER, f"{DOCKER}/default/t1", (CID,), id="free-name-in-a-proven"),
        pytest.param(WEB, f"{WEB}/docker/{OTHER}", ("web",), id="proven-in-a-free-name"),
        pytest.param(WEB, f"{WEB}/default/t1", ("web",), id="both-free-names"),
        pytest.param(
            f"{WEB}/docker/{CID}", f"{WEB}/docker/{CID}/x/t1", ("web", CID), id="three-deep"
        ),
    ],
)
def test_nested_containers_know_who_is_around_them(
    outer: str, inner: str, expected: tuple[str, ...]
) -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    if outer.startswith(WEB + "/"):
        feed(lifecycle, kernel.birth(WEB, runc("web", pid=6000), V2))
    feed(lifecycle, kernel.birth(outer, runc(outer.rpartition("/")[2]), V2))

    changes = feed(lifecycle, kernel.life(inner, runc(inner.rpartition("/")[2], pid=9000), V2))

    assert names(changes) == ["Born", "Entered", "Started", "Gone"]
    (born,) = births(changes)
    assert born.identity.outer == expected
    assert born.identity.container_id == inner.rpartition("/")[2]


def test_a_name_inside_of_its_own_name_is_a_container_when_made_from_inside() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.birth(WEB, runc("web"), V2))
    inside = msgspec.structs.replace(runc("web", pid=9000), mnt_ns=4026539999)

    changes = feed(lifecycle, kernel.life(f"{WEB}/default/web", inside, V2))

    assert names(changes) == ["Born", "Entered", "Started", "Gone"]
    assert births(changes)[0].identity.outer == ("web",)


# --- what is none -------------------------------------------------------------------------


def test_the_parents_a_runtime_makes_are_none_and_are_forgotten() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, kernel.life(WEB, runc("web")))
    assert remembered(lifecycle) == {}

    later = [lifecycle.feed(kernel.attach("/default", child(runc("web")), h)) for h in HYBRID]

    assert [change for changes in later for change in changes] == []


def test_a_64_digit_parent_that_a_runtime_makes_is_no_container() -> None:
    """A Podman pod under a --cgroup-parent is named as a container would be."""
    lifecycle, kernel = Lifecycle(), Kernel()

    changes = feed(lifecycle, kernel.life(f"/my/{OTHER}/libpod-{CID}", runc(CID)))

    assert [born.identity.container_id for born in births(changes)] == [CID]
    assert remembered(lifecycle) == {}


def test_a_64_digit_parent_is_around_nothing() -> None:
    """Podman makes its pod's directory itself, and until it has a child nothing tells it apart."""
    lifecycle, kernel = Lifecycle(), Kernel()
    lifecycle.feed(kernel.mkdir(f"/my/{OTHER}", SOMEBODY))

    (born,) = births(lifecycle.feed(kernel.mkdir(f"/my/{OTHER}/libpod-{CID}", runc(CID))))

    assert born.identity.outer == ()


def test_a_runtime_that_fails_half_way_leaves_nothing() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    feed(lifecycle, [kernel.mkdir("/my", runc("t1")), kernel.mkdir("/my/place", runc("t1"))])

    assert feed(lifecycle, [kernel.rmdir("/my/place"), kernel.rmdir("/my")]) == []
    assert remembered(lifecycle) == {}


def test_a_strangers_task_does_not_make_a_parent_the_container() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    maker = runc("t1")
    feed(lifecycle, [kernel.mkdir("/my", maker), kernel.mkdir("/my/place", maker)])

    changes = lifecycle.feed(kernel.attach("/my", SOMEBODY))
    changes += lifecycle.feed(kernel.attach("/my/place", child(maker)))

    assert [born.path for born in births(changes)] == ["/my/place"]


@pytest.mark.parametrize(
    ("path", "task"),
    [
        pytest.param("/user.slice/session-1.scope", SYSTEMD, id="login"),
        pytest.param("/kubepods/pod91b4778d-c090-7727-b36a-bf0be1b7dc91", SOMEBODY, id="pod"),
        pytest.param(f"/libpod_parent/{CID}", SOMEBODY, id="podman-pod"),
        pytest.param(f"/libpod_parent/libpod-conmon-{CID}", SOMEBODY, id="monitor"),
        pytest.param("/default/web", runc("web", command="state"), id="not-a-call-that-makes"),
        pytest.param("/default/web", SOMEBODY, id="not-an-oci-runtime"),
    ],
)
def test_no_container(path: str, task: Task) -> None:
    lifecycle, kernel = Lifecycle(), Kernel()

    assert feed(lifecycle, kernel.life(path, task, V2), [task]) == []
    assert set(remembered(lifecycle)) <= {"_strangers"}  # the parents are still there


SCOPE = "/system.slice/runc-web.scope"
BY_USER = Task(pid=901, ppid=1, tid=901, uid=1000, comm="systemd", argv=("systemd", "--user"))


@pytest.mark.parametrize("unit", [SYSTEMD, BY_USER])
@pytest.mark.parametrize("program", ["runc", "crun"])
def test_a_free_name_whose_cgroup_systemd_made(unit: Task, program: str) -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    maker = runc("web", program=program, command="run")
    stage = child(maker)

    changes = feed(
        lifecycle,
        [
            kernel.mkdir(SCOPE, unit),
            kernel.attach(SCOPE, stage),
            kernel.mkdir(f"{SCOPE}/container", stage if program == "runc" else maker),
            kernel.attach(f"{SCOPE}/container", stage),
            kernel.exec(f"{SCOPE}/container", stage),
            kernel.rmdir(f"{SCOPE}/container"),
            kernel.rmdir(SCOPE),
        ],
        [maker],
    )

    assert names(changes) == ["Born", "Entered", "Started", "Gone"]
    [born] = births(changes)
    assert (born.identity.container_id, born.path, born.creator) == ("web", SCOPE, unit)
    assert remembered(lifecycle) == {}


def test_what_happens_before_the_answer_is_told_after_it() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    maker = runc("web", command="run")
    life = [kernel.mkdir(SCOPE, SYSTEMD), kernel.attach(SCOPE, child(maker))]
    life += [kernel.exec(SCOPE, child(maker)), kernel.rmdir(SCOPE)]

    [look] = [change for event in life for change in lifecycle.feed(event)]
    assert isinstance(look, Look)
    changes = lifecycle.looked(look.cgroup, maker)

    assert names(changes) == ["Born", "Entered", "Started", "Gone"]
    assert births(changes)[0].boot_ns == life[0].boot_ns
    assert remembered(lifecycle) == {}


def test_cruns_child_introduces_its_container_before_the_answer() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    maker = runc("web", program="crun", command="run")
    lifecycle.feed(kernel.mkdir(SCOPE, BY_USER))
    [look] = lifecycle.feed(kernel.attach(SCOPE, child(maker)))
    assert isinstance(look, Look)

    changes = lifecycle.feed(kernel.mkdir(f"{SCOPE}/container", maker))

    assert [born.path for born in births(changes)] == [SCOPE]
    assert lifecycle.looked(look.cgroup, maker) == []


def test_a_service_is_not_looked_at() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    daemon = Task(pid=50, ppid=1, tid=50, comm="(sd-pam)")
    service = "/system.slice/cron.service"
    events = [kernel.mkdir(service, SYSTEMD), kernel.attach(service, daemon)]

    assert [change for event in events for change in lifecycle.feed(event)] == []
    assert remembered(lifecycle) == {}


def test_strangers_are_bounded() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()

    for number in range(9000):
        lifecycle.feed(kernel.mkdir(f"/left/{number}", SOMEBODY))

    assert remembered(lifecycle) == {"_strangers": 4096}
    assert lifecycle.forgotten == 9000 - 4096


def test_candidates_are_bounded() -> None:
    """Runtimes that fail half-way leave directories; who leaves thousands costs no memory."""
    lifecycle, kernel = Lifecycle(), Kernel()

    for number in range(3000):
        lifecycle.feed(kernel.mkdir(f"/left/{number}", runc("t1", pid=number)))

    assert remembered(lifecycle)["_candidates"] == 1024
    assert lifecycle.forgotten == 3000 - 1024


def test_who_is_not_forgotten_is_not_counted() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()

    for number in range(9000):
        made = kernel.mkdir(f"/left/{number}", SOMEBODY)
        lifecycle.feed(made)
        lifecycle.feed(kernel.rmdir(made.path))

    assert lifecycle.forgotten == 0


def test_the_end_of_a_cut_command_line_is_not_believed() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    cut = msgspec.structs.replace(runc("webserver"), argv_cut=True)

    assert lifecycle.feed(kernel.mkdir("/default/webserver", cut)) == []
    (born,) = births(lifecycle.feed(kernel.mkdir(DOCKER, cut)))
    assert born.identity.container_id == CID


# --- those that were there before ---------------------------------------------------------


def listed(kernel: Kernel, path: str, hierarchies: Sequence[int], **changes: object) -> Listed:
    found = Listed(
        boot_ns=kernel.boot_ns,
        container_id=ContainerId(path.rpartition("/")[2]),
        paths=tuple((kernel.key(path, h), path) for h in sorted(hierarchies)),
        identity=Identity(ContainerId(CID), Runtime.DOCKER, is_root=True)
        if path == DOCKER
        else None,
        leads=Leads(),
        init_pid=77,
    )
    return msgspec.structs.replace(found, **changes)


@pytest.mark.parametrize("path", [pytest.param(DOCKER, id="docker"), pytest.param(WEB, id="free")])
def test_a_listed_container_neither_enters_nor_starts_but_ends(path: str) -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    maker = runc(path.rpartition("/")[2])
    list(kernel.birth(path, maker))  # before us: nobody heard

    changes = lifecycle.listed(listed(kernel, path, HYBRID))
    changes += feed(lifecycle, [kernel.attach(path, child(maker)), kernel.start(path, maker)])
    changes += feed(lifecycle, kernel.end(path))

    assert names(changes) == ["Born", "Gone"]
    (born,) = births(changes)
    assert born.listed is not None
    assert (born.creator, born.cgroup.hierarchy_id) == (None, 0)
    assert remembered(lifecycle) == {}


@pytest.mark.parametrize("path", [pytest.param(DOCKER, id="docker"), pytest.param(WEB, id="free")])
@pytest.mark.parametrize("heard", range(0, 21, 4))
def test_who_is_heard_and_listed_is_born_once(path: str, heard: int) -> None:
    """The list is made while births are read: it may come anywhere between two raw events."""
    lifecycle, kernel = Lifecycle(), Kernel()
    maker = runc(path.rpartition("/")[2])
    events = list(kernel.birth(path, maker))

    changes: list[Change] = [*feed(lifecycle, events[:heard])]
    changes += lifecycle.listed(listed(kernel, path, HYBRID))
    changes += feed(lifecycle, [*events[heard:], kernel.start(path, maker), *kernel.end(path)])

    assert [name for name in names(changes) if name not in ("Placed", "Entered")] == [
        "Born",
        "Started",
        "Gone",
    ]
    assert remembered(lifecycle) == {}


def test_a_container_is_listed_once() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    list(kernel.birth(WEB, runc("web"), V2))
    found = listed(kernel, WEB, V2)

    assert names([*lifecycle.listed(found), *lifecycle.listed(found)]) == ["Born"]


def test_a_listed_container_has_one_maker() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    made = [
        kernel.mkdir(WEB, runc("web", pid=pid), hierarchy) for pid, hierarchy in ((7, 3), (8, 0))
    ]

    lifecycle.listed(listed(kernel, WEB, (3, 0)))
    feed(lifecycle, [*made, *kernel.end(WEB, (3, 0))])

    assert remembered(lifecycle) == {}


@pytest.mark.parametrize("ends", ["started-anew", "removed"])
def test_an_answer_that_comes_after_the_end_tells_of_nothing_again(ends: str) -> None:
    """Heard while nothing explained it, then listed; it had ended before the answer."""
    lifecycle, kernel, maker = Lifecycle(), Kernel(), runc("web")
    lifecycle.feed(kernel.mkdir(WEB, SYSTEMD))
    assert len(lifecycle.feed(kernel.attach(WEB, child(maker)))) == 1  # a Look, not answered yet
    key = kernel.key(WEB)
    assert len(births(lifecycle.listed(listed(kernel, WEB, (0,))))) == 1
    anew = ends == "started-anew"
    end = kernel.mkdir(WEB, runc("web", pid=99)) if anew else kernel.rmdir(WEB)
    assert names(lifecycle.feed(end))[0] == "Gone"

    assert births(lifecycle.looked(key, maker)) == []


def test_a_listed_container_without_a_directory_is_none() -> None:
    found = listed(Kernel(), WEB, ())

    assert Lifecycle().listed(found) == []


# --- any stream ---------------------------------------------------------------------------


class Laws:
    """Hears every change and holds the laws of the module's head."""

    def __init__(self) -> None:
        self.seen: dict[int, list[str]] = {}

    def hear(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, Look):
                continue
            name, heard = type(change).__name__, self.seen.setdefault(change.serial, [])
            assert (name == "Born") == (not heard), "born first, and once"
            assert "Gone" not in heard, "nothing after the end"
            assert name == "Placed" or name not in heard, "at most once"
            if name in {"Entered", "Begun"}:
                assert "Started" not in heard
            heard.append(name)

    def count(self, name: str) -> int:
        return sum(heard.count(name) for heard in self.seen.values())


def consistent(lifecycle: Lifecycle) -> None:
    """Its maps tell the same story."""
    containers = lifecycle._living
    living = set(map(id, containers))
    places = {
        CgroupKey(hierarchy, number): id(container)
        for hierarchy, owners in containers._by_cgroup._owners.items()
        for number, container in owners.items()
    }
    assert places == {
        cgroup: id(container)
        for container in containers
        for cgroup in containers.directories(container)
    }
    assert {id(container) for container in containers._by_path.values()} <= living
    assert {id(container) for container in lifecycle._by_maker.values()} <= living
    assert all(container.maker == maker for maker, container in lifecycle._by_maker.items())


Script = Callable[[Kernel], Iterator[RawEvent]]
FEW = (3, 1, 0)


def script(
    path: str, maker: Task, hierarchies: Sequence[int], children: Sequence[str], starts: bool
) -> Script:
    def play(kernel: Kernel) -> Iterator[RawEvent]:
        yield from kernel.birth(path, maker, hierarchies)
        if starts:
            yield kernel.init(path, child(maker), hierarchies[-1])
            yield kernel.start(path, maker, hierarchies)
        for below in children:
            for hierarchy in hierarchies:
                yield kernel.mkdir(f"{path}/{below}", child(maker), hierarchy)
                yield kernel.attach(f"{path}/{below}", child(maker), hierarchy)
        for below in reversed(children):
            for hierarchy in hierarchies:
                yield kernel.rmdir(f"{path}/{below}", hierarchy=hierarchy)
        yield from kernel.end(path, hierarchies)

    return play


PLACES = (
    ("/demo/web", "web"),
    ("/prod/web", "web"),
    ("/demo/db", "db"),
    ("/web/web", "web"),
    ("/my/place", "job"),
    (DOCKER, CID),
    (f"/libpod_parent/libpod-{OTHER}", OTHER),
    (f"/kubepods/burstable/pod91b4778d-c090-7727-b36a-bf0be1b7dc91/{OTHER[1:]}a", f"{OTHER[1:]}a"),
)


@given(st.data())
@settings(deadline=None)
def test_whatever_is_interleaved_each_container_lives_once(data: st.DataObject) -> None:
    kernel, lifecycle, laws = Kernel(), Lifecycle(), Laws()
    hierarchies = data.draw(st.sampled_from([FEW, V2, (3, 1)]))
    places = data.draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=5, unique=True))
    queues: list[list[Iterator[RawEvent]]] = []
    lives = starts = 0
    for number, (path, container_id) in enumerate(places):
        queue = []
        for again in range(data.draw(st.integers(1, 2), label="lives")):
            maker = runc(container_id, pid=1000 * (number + 1) + 100 * again)
            children = data.draw(
                st.lists(st.sampled_from(("init", "container", "init.scope")), unique=True)
            )
            does_start = data.draw(st.booleans())
            lives, starts = lives + 1, starts + does_start
            queue.append(script(path, maker, hierarchies, children, does_start)(kernel))
        queues.append(queue)

    while queues:
        queue = data.draw(st.sampled_from(queues))
        if (event := next(queue[0], None)) is None:
            queue.pop(0)
            if not queue:
                queues = [other for other in queues if other]
            continue
        laws.hear(lifecycle.feed(event))
        consistent(lifecycle)

    assert laws.count("Born") == laws.count("Gone") == laws.count("Entered") == lives
    assert laws.count("Started") == laws.count("Begun") == starts
    assert remembered(lifecycle) == {}


TASKS = st.one_of(
    st.sampled_from((SYSTEMD, SOMEBODY)),
    st.builds(
        lambda name, pid: runc(name, pid=pid),
        st.sampled_from(("web", "db", CID, OTHER)),
        st.integers(1, 3),
    ),
    st.builds(lambda pid, ppid: Task(pid=pid, ppid=ppid), st.integers(1, 9), st.integers(1, 3)),
)
PATHS = st.lists(
    st.sampled_from(("web", "db", "docker", CID, OTHER, f"libpod-{CID}", "init")), max_size=4
).map(lambda parts: "/" + "/".join(parts))
RAW = st.builds(
    RawEvent,
    kind=st.sampled_from(Kind),
    boot_ns=st.integers(0, 2**63),
    cgroup=st.builds(CgroupKey, st.integers(0, 2), st.integers(1, 6)),
    parent_id=st.integers(1, 6),
    level=st.just(1),
    path=PATHS,
    path_cut=st.just(False),
    task=TASKS,
    lost=st.just(0),
)
LISTED = st.builds(
    Listed,
    boot_ns=st.integers(0, 2**63),
    container_id=st.sampled_from(("web", CID)).map(ContainerId),
    paths=st.lists(
        st.tuples(st.builds(CgroupKey, st.integers(0, 2), st.integers(1, 6)), PATHS)
    ).map(tuple),
    identity=st.none() | st.just(Identity(ContainerId(CID), Runtime.DOCKER, is_root=True)),
    leads=st.just(Leads()),
)


ANSWERS = st.tuples(st.builds(CgroupKey, st.integers(0, 2), st.integers(1, 6)), st.none() | TASKS)


@given(st.lists(RAW | LISTED | ANSWERS, max_size=60))
@settings(deadline=None, max_examples=300)
def test_the_laws_hold_for_streams_that_no_kernel_would_send(
    items: list[RawEvent | Listed | tuple[CgroupKey, Task | None]],
) -> None:
    """Losses tear any hole into a stream: what is left may say anything."""
    lifecycle, laws = Lifecycle(), Laws()

    for item in items:
        match item:
            case RawEvent():
                laws.hear(lifecycle.feed(item))
            case Listed():
                laws.hear(lifecycle.listed(item))
            case cgroup, caller:
                laws.hear(lifecycle.looked(cgroup, caller))
        consistent(lifecycle)

    living = lifecycle._living
    for cgroup in [each for one in living for each in living.directories(one)]:
        gone = RawEvent(
            kind=Kind.RMDIR,
            boot_ns=0,
            cgroup=cgroup,
            parent_id=1,
            level=1,
            path="",
            path_cut=False,
            task=SOMEBODY,
            lost=0,
        )
        laws.hear(lifecycle.feed(gone))
    kept = remembered(lifecycle)
    for bounded in ("_candidates", "_strangers"):
        kept.pop(bounded, None)
    assert kept == {}
    assert laws.count("Born") == laws.count("Gone")


# --- whose birth or end was not heard -----------------------------------------------------


def test_one_that_a_runtime_remembers_is_born_and_gone() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    found = Listed(
        boot_ns=kernel.boot_ns,
        container_id=ContainerId(CID),
        paths=(),
        identity=None,
        leads=Leads(),
        unheard=True,
        source="docker",
        runtime=Runtime.DOCKER,
    )

    first, last = lifecycle.listed(found)
    assert isinstance(first, Born)
    assert isinstance(last, Gone)
    assert first.identity == Identity(ContainerId(CID), Runtime.DOCKER, is_root=True)
    assert first.cgroup == NOWHERE
    assert remembered(lifecycle) == {}


def test_a_directory_that_is_not_there_any_more_ends_its_container() -> None:
    lifecycle, kernel = Lifecycle(), Kernel()
    for event in kernel.birth(DOCKER, runc(CID)):
        lifecycle.feed(event)
    (living,) = lifecycle.living()
    assert set(living.cgroups) == {kernel.key(DOCKER, h) for h in HYBRID}
    assert lifecycle.knows(listed(kernel, DOCKER, [0]))

    (last,) = lifecycle.vanished(living.cgroups[3], 5)
    assert isinstance(last, Gone)
    assert remembered(lifecycle) == {}
    assert lifecycle.vanished(living.cgroups[3], 6) == []
    assert not lifecycle.knows(listed(kernel, DOCKER, [0]))


# --- LXC's and systemd-nspawn's -----------------------------------------------------------

MONITOR = Task(
    pid=300, ppid=1, tid=300, comm="lxc-start", argv=("[lxc monitor] /var/lib/lxc web",), mnt_ns=1
)
NSPAWN = Task(
    pid=400, ppid=1, comm="systemd-nspawn", argv=("systemd-nspawn", "-M", "web", "sh"), mnt_ns=1
)
INIT = msgspec.structs.replace(child(MONITOR), mnt_ns=2)


def lxc(kernel: Kernel, payload: str, watcher: str) -> Iterator[RawEvent]:
    """As LXC 5.0 does it: all directories first, then the monitor, then the container enters."""
    for path, enters in ((watcher, MONITOR), (payload, INIT)):
        for hierarchy in HYBRID:
            yield kernel.mkdir(path, MONITOR, hierarchy)
        for hierarchy in HYBRID:
            yield kernel.attach(path, enters, hierarchy)
    yield kernel.exec(payload, INIT, "/sbin/init")
    yield from kernel.end(payload)
    for hierarchy in HYBRID:
        yield kernel.mkdir("/lxc.pivot", MONITOR, hierarchy)
        yield kernel.attach("/lxc.pivot", MONITOR, hierarchy)
    yield from kernel.end(watcher)


@pytest.mark.parametrize(
    ("payload", "watcher"),
    [
        pytest.param("/lxc.payload.web", "/lxc.monitor.web", id="as-lxc-spells-it"),
        pytest.param("/own", "/watcher", id="as-its-user-spells-it"),
    ],
)
def test_of_lxc_only_the_container_is_one(payload: str, watcher: str) -> None:
    lifecycle = Lifecycle()
    changes = feed(lifecycle, lxc(Kernel(), payload, watcher))
    [born] = births(changes)

    assert born.identity == Identity(ContainerId("web"), Runtime.LXC, is_root=True)
    assert born.path == payload
    assert [name for name in names(changes) if name != "Placed"] == [
        "Born", "Entered", "Started", "Gone",
    ]  # fmt: skip


@pytest.mark.parametrize("unit", ["machine.slice/machine-web.scope", "some.service"])
def test_of_nspawn_only_the_payload_is_one(unit: str) -> None:
    kernel, lifecycle = Kernel(), Lifecycle()
    payload, supervisor = f"/{unit}/payload", f"/{unit}/supervisor"
    changes = feed(
        lifecycle,
        [
            kernel.mkdir(f"/{unit}", SYSTEMD),
            kernel.attach(f"/{unit}", NSPAWN),
            kernel.mkdir(payload, NSPAWN),
            kernel.attach(payload, child(NSPAWN)),
            kernel.mkdir(supervisor, NSPAWN),
            kernel.attach(supervisor, NSPAWN),
            kernel.exec(payload, child(NSPAWN)),
            kernel.mkdir(f"{payload}/init.scope", child(NSPAWN)),
            kernel.rmdir(f"{payload}/init.scope"),
            kernel.rmdir(supervisor),
            kernel.rmdir(payload),
        ],
    )
    [born] = births(changes)

    assert born.identity == Identity(ContainerId("web"), Runtime.NSPAWN, is_root=True)
    assert names(changes) == ["Born", "Entered", "Started", "Gone"]


def test_a_machine_ends_without_what_nspawn_leaves_in_a_hierarchy_of_its_own() -> None:
    """On cgroup v2 it mounts name=systemd for a moment, and makes the machine's path there."""
    kernel, lifecycle = Kernel(), Lifecycle(mounted=frozenset(V2))
    unit = "/machine.slice/machine-web.scope"
    payload = f"{unit}/payload"
    changes = feed(
        lifecycle,
        [
            kernel.mkdir(unit, SYSTEMD),
            kernel.attach(unit, NSPAWN),
            kernel.mkdir(payload, NSPAWN),
            kernel.attach(payload, child(NSPAWN)),
            *(kernel.mkdir(path, NSPAWN, hierarchy=1) for path in (unit, payload)),
            kernel.attach(payload, child(NSPAWN), hierarchy=1),
            kernel.exec(payload, child(NSPAWN)),
            kernel.rmdir(payload),
            kernel.rmdir(unit),
        ],
    )

    assert names(changes) == ["Born", "Entered", "Started", "Gone"]
    assert remembered(lifecycle).keys() <= {"_strangers"}


def test_a_name_of_the_users_choice_is_only_good_for_its_path() -> None:
    """Two users' `web`, and systemd-nspawn's."""
    kernel, lifecycle = Kernel(), Lifecycle()
    paths = ["/a/lxc.payload.web", "/b/lxc.payload.web", "/machine-web.scope/payload"]
    changes = feed(lifecycle, [kernel.mkdir(path, SOMEBODY) for path in paths])

    assert [born.path for born in births(changes)] == paths
    assert names(changes) == ["Born"] * 3
