"""Containers that were there before ctrwatch: listed once, complete, with their true age."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tests.live.bed import Bed
from tests.live.crowd import Crowd
from tests.live.runtimes import Cri, Ctr, Docker, Podman, Runc
from tests.live.waiting import until
from tests.live.watching import SENSORS, Event, Watching, ctrwatch, unified

DEFAULT_STATE = Path("/run/runc")  # where a runc without --root keeps its containers
NOBODY = 65534
ONE_SECOND_NS = 1_000_000_000


class Kept:
    """One living container of each kind, older than any watch in this module."""

    def __init__(self, docker: Docker, ctr: Ctr, cri: Cri, podman: Podman, runc: Runc) -> None:
        self.docker = docker.run("sleep", "600", options=["--name", "old-docker"])
        self.ctr = ctr.run("old-ctr", "sleep", "600", namespace="old")
        self.pod = cri.pod("old-pod", "prod")
        self.cri = cri.run(self.pod, "app", "sleep", "600")
        self.podman = podman.run("sleep", "600", options=["--name", "old-podman"])
        self.runc = runc.run("old-runc", "sleep", "600", state=DEFAULT_STATE)
        self.ids = [self.docker, self.ctr, self.pod.id, self.cri, self.podman, self.runc]


@pytest.fixture(scope="module")
def kept(docker: Docker, ctr: Ctr, cri: Cri, podman: Podman, runc: Runc) -> Iterator[Kept]:
    kept = Kept(docker, ctr, cri, podman, runc)
    yield kept
    docker.remove(kept.docker)
    ctr.remove(kept.ctr, "old")
    cri.remove_pod(kept.pod)
    podman.remove(kept.podman)
    runc.remove(kept.runc, state=DEFAULT_STATE)


@pytest.fixture(scope="module")
def listed(kept: Kept) -> dict[str, Event]:
    with Watching() as watching:
        pass
    events = [line.event for line in watching.lines]
    ours = [event for event in events if event["container_id"] in kept.ids]
    assert sorted(event["container_id"] for event in ours) == sorted(kept.ids)  # none twice
    assert {event["event"] for event in ours} == {"existing_container"}
    return {event["container_id"]: event for event in ours}


def test_all_kinds_are_listed_once_and_complete(kept: Kept, listed: dict[str, Event]) -> None:
    statuses = {event["runtime"]: event["evidence"]["status"] for event in listed.values()}

    assert statuses == dict.fromkeys(("docker", "containerd", "podman", "runc"), "complete")


def test_names_pods_and_processes_are_the_runtimes(
    kept: Kept, listed: dict[str, Event], docker: Docker, cri: Cri, podman: Podman
) -> None:
    by_docker, by_podman = docker.inspect(kept.docker), podman.inspect(kept.podman)

    assert listed[kept.docker]["container_name"] == "old-docker"
    assert listed[kept.docker]["init"]["pid"] == by_docker["State"]["Pid"]
    assert listed[kept.podman]["container_name"] == "old-podman"
    assert listed[kept.podman]["init"]["pid"] == by_podman["State"]["Pid"]
    assert listed[kept.podman]["container_image_digest"] == by_podman["ImageDigest"]
    assert listed[kept.pod.id]["pod_sandbox"] is True
    assert listed[kept.cri]["container_name"] == "app"
    assert listed[kept.cri]["pod_name"] == "old-pod"
    assert listed[kept.cri]["pod_uid"] == cri.pod_status(kept.pod).metadata.uid
    assert listed[kept.cri]["image"]["id"] == cri.image_status().id
    assert listed[kept.ctr]["cgroup"]["path"] == "/old/old-ctr"
    assert all(event["security"] and event["process"] for event in listed.values())


def test_ctime_is_the_runtimes_creation_time(
    kept: Kept, listed: dict[str, Event], docker: Docker, cri: Cri, podman: Podman
) -> None:
    assert listed[kept.docker]["ctime"] == nanoseconds(docker.inspect(kept.docker)["Created"])
    by_cri = cri.status(kept.cri).created_at  # containerd's own record is a millisecond older
    assert abs(listed[kept.cri]["ctime"] - by_cri) < ONE_SECOND_NS
    by_podman = nanoseconds(podman.inspect(kept.podman)["Created"])
    assert abs(listed[kept.podman]["ctime"] - by_podman) < ONE_SECOND_NS


def test_ctime_of_a_plain_runc_container_is_its_first_process(
    kept: Kept, listed: dict[str, Event], runc: Runc
) -> None:
    event = listed[kept.runc]
    created = nanoseconds(runc.state(kept.runc, state=DEFAULT_STATE)["created"])

    assert event["evidence"]["sources"]["ctime"] == "init"
    assert abs(event["ctime"] - created) < ONE_SECOND_NS


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_birth_has_one_id_for_whoever_tells_of_it(docker: Docker, sensor: str) -> None:
    with Watching("--sensor", sensor) as first:
        container = docker.run("sleep", "600")
        born = first.event("container_create", container)
    with Watching() as second:
        found = second.event("existing_container", container)
    docker.remove(container)

    assert found["id"] == born["id"]
    assert found["cgroup"] == born["cgroup"]


@pytest.mark.parametrize("sensor", SENSORS)
def test_the_removal_of_a_container_that_was_there_is_told(docker: Docker, sensor: str) -> None:
    container = docker.run("sleep", "600")
    with Watching("--sensor", sensor) as watching:
        docker.remove(container)
        watching.event("container_remove", container)

    assert watching.names(container) == ["existing_container", "container_remove"]


def test_ps_shows_every_runtime_in_one_table(kept: Kept) -> None:
    table = ctrwatch("ps")
    events = [json.loads(line) for line in ctrwatch("ps", "--json").splitlines()]

    assert table.splitlines()[0].split()[:5] == ["ID", "RUNTIME", "NAME", "IMAGE", "POD"]
    for name in ("old-docker", "old-ctr", "prod/old-pod", "old-podman", "old-runc"):
        assert name in table
    assert set(kept.ids) <= {event["container_id"] for event in events}


def nanoseconds(time: str) -> int:
    """Of RFC 3339, to the last digit."""
    head, _, tail = time.partition(".")
    digits = "".join(letter for letter in tail.rstrip("Z").partition("+")[0] if letter.isdigit())
    zone = "+" + tail.partition("+")[2] if "+" in tail else "+00:00"
    whole = datetime.fromisoformat(head.rstrip("Z") + zone).astimezone(UTC)
    return int(whole.timestamp()) * ONE_SECOND_NS + int(digits.ljust(9, "0")[:9] or 0)


def test_a_crowd_is_listed_once_and_complete(bed: Bed) -> None:
    with Crowd(bed.home / "crowd", 1009) as crowd:
        rows = [json.loads(line) for line in ctrwatch("ps", "--json").splitlines()]
    ids = {
        container_id: runtime
        for runtime in ("docker", "runc", "crio")
        for container_id in getattr(crowd, runtime)
    }
    ours = [row for row in rows if row["container_id"] in ids]

    assert {row["container_id"]: row["runtime"] for row in ours} == ids
    assert len(ours) == 1009
    assert {row["evidence"]["status"] for row in ours} == {"complete"}


def test_a_users_cgroup_of_that_name_is_not_the_container(docker: Docker) -> None:
    """He may name his cgroups as he likes: it neither ends the container nor tells its story."""
    container, socket = docker.run("sleep", "600"), f"docker={docker.socket}"
    own = unified() / "ctrwatch-user"
    place = own / f"docker-{container}.scope"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    try:
        with Watching("--socket", socket, "--wait", "0.5") as watching:
            subprocess.run(["mkdir", place], check=True, user=NOBODY)
            born = watching.event("container_create", container)
        with subprocess.Popen(["sleep", "600"], user=NOBODY) as his:
            (place / "cgroup.procs").write_text(str(his.pid))
            rows = [
                json.loads(line)
                for line in ctrwatch("ps", "--json", "--socket", socket).splitlines()
            ]
            his.kill()
    finally:
        docker.remove(container)
        for directory in (place, own):
            until("it is empty", partial(removed, directory))

    assert (born["evidence"]["status"], born["creator"]["uid"]) == ("unverified", NOBODY)
    assert born["container_image"] == ""
    assert "container_remove" not in watching.names(container)
    listed = {
        row["cgroup"]["path"]: row["evidence"]["status"]
        for row in rows
        if row["container_id"] == container
    }
    assert listed == {
        f"/docker/{container}": "complete",
        f"/ctrwatch-user/docker-{container}.scope": "unverified",
    }


def test_a_container_that_has_ended_is_not_who_has_its_first_process_s_number_now(ctr: Ctr) -> None:
    """A bundle's init.pid stays until the task is deleted; pids are used again."""
    ctr.run("old-ended", "true", namespace="old")
    until("it has ended", lambda: "STOPPED" in ctr.cli("old", "task", "ls"))
    tasks = ctr.socket.parent / "state/io.containerd.runtime.v2.task"
    other = unified() / "ctrwatch-other"
    other.mkdir()
    with subprocess.Popen(["/bin/busybox", "sleep", "600"]) as process:
        try:
            (other / "cgroup.procs").write_text(str(process.pid))
            (tasks / "old/old-ended/init.pid").write_text(str(process.pid))
            rows = [json.loads(line) for line in ctrwatch("ps", "--json").splitlines()]
        finally:
            process.kill()
            process.wait()
            until("it is empty", partial(removed, other))
            ctr.remove("old-ended", "old")

    assert "old-ended" not in {row["container_id"] for row in rows}


def removed(directory: Path) -> bool:
    with suppress(OSError):
        directory.rmdir()
    return not directory.exists()
