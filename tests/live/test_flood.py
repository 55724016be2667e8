"""A user floods the host with cgroups named like containers: the real ones do not notice."""

from __future__ import annotations

import pytest

from tests.live.flood import NOBODY, Flood
from tests.live.runtimes import Ctr, Docker
from tests.live.watching import Event, Watching

PRIMED = "f1" * 28  # what all ids in the flood end in
SINGLY = 100  # core/flood.py, in ten seconds
GROWS_MB = 4.0  # of resident memory, for the whole flood


def resident_mb(watching: Watching) -> float:
    with open(f"/proc/{watching.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("sensor", "number"),
    [pytest.param("ebpf", 100_003, id="ebpf"), pytest.param("fanotify", 10_007, id="fanotify")],
)
def test_a_flood_is_one_event_and_real_births_are_complete_and_in_time(
    ctr: Ctr, docker: Docker, sensor: str, number: int
) -> None:
    ctr.remove(ctr.run("before-the-flood", "true"))
    with Watching("--no-existing", "--sensor", sensor) as watching, Flood() as flood:
        before_mb = resident_mb(watching)
        free: list[str] = []
        dockers: list[str] = []
        flood.begin(number)
        while not flood.is_over:  # a birth of each kind after the other
            dockers.append(docker.run("true"))
            if (
                sensor == "ebpf"
            ):  # what fanotify can't tell of a maker that has gone: docs/limits.md
                free.append(ctr.run(f"in-the-flood-{len(free)}", "true"))
        flood.end()
        free.append(ctr.run("after-the-flood", "true"))
        real = [*dockers, *free]
        # By fanotify a program that has ended before its notice was read has no start.
        last = "container_start" if sensor == "ebpf" else "container_create"
        for container in real:
            watching.event(last, container)
        grown_mb = resident_mb(watching) - before_mb
        watching.stop()  # the last flood is told with the end
        docker.remove(*dockers)
        for container in free:
            ctr.remove(container)

    for container in real:
        created = watching.event("container_create", container)
        assert created["evidence"]["status"] == "complete", created["evidence"]
        assert created["evidence"]["after_ms"] < 500  # 10 to 25 on a host that does nothing else
        if sensor == "ebpf":
            assert watching.names(container)[:2] == ["container_create", "container_start"]
    told, floods = told_singly(watching), the_floods(watching)
    assert len(told) + sum(event["count"] for event in floods) == number
    assert len(told) <= SINGLY * (len(floods) + 1)
    assert {event["uid"] for event in floods} == {NOBODY}
    assert all("ctrwatch-flood" in event["examples"][0] for event in floods)
    assert len(watching.errors) < 10 + 2 * len(floods)
    assert grown_mb < GROWS_MB


def told_singly(watching: Watching) -> set[str]:
    """Each once, as unverified, with its maker."""
    fakes = [
        line.event
        for line in watching.lines
        if line.event.get("container_id", "").endswith(PRIMED)
        and line.event["event"] == "container_create"
    ]
    assert all(event["evidence"]["status"] == "unverified" for event in fakes)
    assert all(event["creator"]["uid"] == NOBODY for event in fakes)
    ids = {event["container_id"] for event in fakes}
    assert len(ids) == len(fakes)
    return ids


def the_floods(watching: Watching) -> list[Event]:
    return [line.event for line in watching.lines if line.event["event"] == "flood"]
