"""The rules of emptiness: what is not known is empty and has its reason; status follows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.changes import Born
from ctrwatch.core.describe import describe, rfc3339, wall_ns
from ctrwatch.core.merge import Known
from ctrwatch.event import ContainerEvent, Creator
from ctrwatch.model import (
    FINAL,
    CgroupKey,
    ContainerId,
    Facts,
    Identity,
    Leads,
    Listed,
    Missing,
    Runtime,
    Task,
)
from tests.unit.builders import CID, MS, runc

OFFSET_NS = 1_700_000_000 * 10**9
IDENTITY = Identity(ContainerId(CID), Runtime.DOCKER, is_root=True)


def birth(**changes: Any) -> Born:
    born = Born(
        serial=1,
        boot_ns=7 * MS,
        identity=IDENTITY,
        cgroup=CgroupKey(3, 1001),
        path=f"/docker/{CID}",
        creator=runc(CID),
        call=None,
    )
    return msgspec.structs.replace(born, **changes)


def listed(**changes: Any) -> Born:
    found = Listed(
        boot_ns=7 * MS,
        container_id=IDENTITY.container_id,
        paths=((CgroupKey(0, 5), "/x"),),
        identity=IDENTITY,
        leads=Leads(),
    )
    return birth(creator=None, listed=msgspec.structs.replace(found, **changes))


def write(
    facts: Facts | None = None,
    *,
    born: Born | None = None,
    reasons: dict[str, Missing] | None = None,
    **changes: Any,
) -> ContainerEvent:
    born, known = born or birth(), Known()
    known.add("somebody", facts or Facts())
    values: dict[str, Any] = {
        "event_id": "i",
        "host": "h",
        "happened_ns": born.boot_ns + OFFSET_NS,
        "cgroup": born.cgroup,
        "path": born.path,
        "verified": True,
        "wall_offset_ns": OFFSET_NS,
        "after_ms": 1.23456,
        "lost_before": 0,
    }
    return describe(
        "container_create", born=born, known=known, reasons=reasons or {}, **(values | changes)
    )


# --- status -------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Missing)
def test_a_final_reason_leaves_an_event_complete(reason: Missing) -> None:
    event = write(reasons={"container_image": reason})

    is_complete = reason in FINAL or reason is Missing.CUT
    assert event.evidence.status == ("complete" if is_complete else "partial")
    assert event.evidence.missing["container_image"] is reason


@pytest.mark.parametrize("reason", Missing)
def test_nothing_is_more_than_unverified_without_evidence(reason: Missing) -> None:
    event = write(reasons={"container_image": reason}, verified=False)

    assert event.evidence.status == "unverified"


def test_what_is_only_useful_makes_no_event_partial() -> None:
    event = write(born=listed())

    assert event.evidence.status == "complete"
    assert event.evidence.missing == {
        "creator": Missing.BEFORE_US,
        "ctime": Missing.NOT_FOUND,
        "init.pid": Missing.NOT_FOUND,
    }


@pytest.mark.parametrize(("owner", "uid"), [(1000, 1000), (-1, None)], ids=["known", "gone"])
def test_of_a_creator_that_had_ended_little_is_told(owner: int, uid: int | None) -> None:
    event = write(born=birth(creator=Task(pid=7, ppid=0, uid=owner, only_pid=True)))

    assert event.creator == Creator(pid=7, uid=uid)
    assert event.evidence.missing["creator"] is Missing.NOT_FOUND


# --- who says what ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "path_says", "runtime", "source"),
    [
        pytest.param(Runtime.PODMAN, Runtime.DOCKER, "podman", "somebody", id="evidence-first"),
        pytest.param(None, Runtime.DOCKER, "docker", "path", id="then-the-path"),
        pytest.param(None, Runtime.UNKNOWN, "unknown", None, id="else-unknown"),
    ],
)
def test_the_runtimes_name(
    said: Runtime | None, path_says: Runtime, runtime: str, source: str | None
) -> None:
    born = birth(identity=IDENTITY._replace(runtime=path_says))
    reasons = {"runtime": Missing.NOT_FOUND} if said is None else {}

    event = write(Facts(runtime=said), born=born, reasons=reasons)

    assert event.runtime == runtime
    assert event.evidence.sources.get("runtime") == source
    assert ("runtime" in event.evidence.missing) == (source is None)


@pytest.mark.parametrize(
    ("born", "created_ns", "ctime", "source"),
    [
        pytest.param(birth(), None, 7 * MS + OFFSET_NS, "kernel", id="seen-being-born"),
        pytest.param(birth(), 99, 7 * MS + OFFSET_NS, "kernel", id="the-kernel-before-a-record"),
        pytest.param(listed(init_start_ns=3), 99, 99, "somebody", id="the-runtimes-record"),
        pytest.param(listed(init_start_ns=3), None, 3 + OFFSET_NS, "init", id="its-first-process"),
        pytest.param(listed(), None, None, None, id="nobody"),
    ],
)
def test_creation_time(
    born: Born, created_ns: int | None, ctime: int | None, source: str | None
) -> None:
    event = write(Facts(created_ns=created_ns), born=born)

    assert (event.ctime, event.evidence.sources.get("ctime")) == (ctime, source)
    assert ("ctime" in event.evidence.missing) == (ctime is None)
    assert "created" not in event.evidence.sources


@pytest.mark.parametrize(
    ("key", "version"),
    [
        pytest.param(CgroupKey(0, 2**64 - 1), 2, id="unified"),
        pytest.param(CgroupKey(3, 5), 1, id="v1"),
    ],
)
def test_the_cgroups_version_is_its_hierarchys(key: CgroupKey, version: int) -> None:
    event = write(cgroup=key)

    assert (event.cgroup.id, event.cgroup.hierarchy_id) == (key.cgroup_id, key.hierarchy_id)
    assert event.cgroup.version == version


def test_the_image_is_taken_apart() -> None:
    event = write(Facts(image="ghcr.io/team/app:1.2", image_id="sha256:x", digest_kind="index"))

    assert (event.image.registry, event.image.repository, event.image.tag) == (
        "ghcr.io",
        "team/app",
        "1.2",
    )
    assert (event.image.id, event.image.digest_kind) == ("sha256:x", "index")


@pytest.mark.parametrize("image", ["", " ", "@", ":", "///", "a" * 5000, "sha256:" + "a" * 64, "é"])
def test_an_image_of_any_name_is_an_event(image: str) -> None:
    assert write(Facts(image=image)).container_image == image


def test_bytes_that_are_no_text_can_be_written() -> None:
    odd = "caf\udce9"
    born = birth(
        creator=msgspec.structs.replace(runc("x"), comm=odd),
        path=f"/{odd}",
        identity=IDENTITY._replace(container_id=ContainerId(odd), outer=(ContainerId(odd),)),
    )

    event = write(born=born)

    assert event.cgroup.path == "/caf\\xe9"
    assert event.creator.comm == "caf\\xe9"
    assert (event.container_id, event.outer) == ("caf\\xe9", ("caf\\xe9",))
    assert msgspec.json.decode(msgspec.json.encode(event), type=ContainerEvent) == event


# --- time ---------------------------------------------------------------------------------


@given(st.integers(0, 2**63))
def test_a_time_comes_back_to_the_nanosecond(wall: int) -> None:
    assert wall_ns(rfc3339(wall)) == wall


@given(st.lists(st.integers(0, 2**63), min_size=2))
def test_times_sort_as_text(walls: list[int]) -> None:
    assert sorted(map(rfc3339, walls)) == [rfc3339(wall) for wall in sorted(walls)]
