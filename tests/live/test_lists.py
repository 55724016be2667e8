"""What ctrwatch has of a runtime's list, against what the runtime's own client prints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from ctrwatch.evidence.containerd import Containerd
from ctrwatch.evidence.cri import Cri as CriSource
from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.engine import DockerEngine
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.podman import PodmanFiles
from ctrwatch.evidence.storage import Storages
from ctrwatch.model import Listing
from tests.live.runtimes import Cri, Ctr, Docker, Podman
from tests.live.waiting import until


class One(NamedTuple):
    container_id: str
    name: str
    image: str
    running: bool | None


@pytest.fixture
def readers() -> Iterator[Readers]:
    made = Readers()
    yield made
    made.close()


def ours(listing: Listing) -> list[One]:
    assert listing.unavailable == ()
    return sorted(
        One(each.container_id, each.name, each.image, each.running) for each in listing.records
    )


def said(ones: Iterable[One], *has: str) -> list[One]:
    """What a client printed; it *has* at least these ids."""
    known = sorted(ones)
    assert {*has} <= {each.container_id for each in known}
    return known


async def test_docker_ps(docker: Docker) -> None:
    runs = docker.run("sleep", "600", options=["--name", "runs"])
    ended = docker.run("true", options=["--name", "ended"])
    paused = docker.run("sleep", "600", options=["--name", "paused"])
    never = docker.cli("create", "--name", "never", "--network", "none", "busybox:test")
    docker.wait(ended)
    docker.cli("pause", paused)
    try:
        printed = docker.cli("ps", "--all", "--no-trunc", "--format", "{{json .}}")
        listing = await DockerEngine(Sockets({"docker": [str(docker.socket)]}, ())).records()
    finally:
        docker.cli("unpause", paused)
        docker.remove(runs, ended, paused, never)

    rows = [json.loads(line) for line in printed.splitlines()]
    assert ours(listing) == said(
        (
            One(row["ID"], row["Names"], row["Image"], row["State"] in {"running", "paused"})
            for row in rows
            if row["State"] != "created"  # no container yet
        ),
        *(runs, ended, paused),
    )


async def test_ctr_containers_ls(ctr: Ctr, readers: Readers) -> None:
    """In every namespace. Whether one runs is its task's state."""
    ctr.run("list-runs", "sleep", "600")
    ctr.run("list-ended", "true", namespace="other")
    until("it has ended", lambda: "STOPPED" in ctr.cli("other", "task", "ls"))
    ctr.cli("other", "container", "create", "docker.io/library/busybox:test", "list-never")
    try:
        printed = [
            one
            for namespace in ctr.cli("default", "namespace", "ls", "--quiet").split()
            for one in _in_namespace(ctr, namespace)
        ]
        source = Containerd(readers, Sockets({"containerd": [str(ctr.socket)]}, ()))
        listing = await source.records()
    finally:
        ctr.remove("list-runs")
        for each in ("list-ended", "list-never"):
            ctr.remove(each, "other")

    assert ours(listing) == said(printed, "list-runs", "list-ended", "list-never")


def _in_namespace(ctr: Ctr, namespace: str) -> Iterator[One]:
    tasks = ctr.cli(namespace, "task", "ls").splitlines()[1:]
    states = {task.split()[0]: task.split()[2] for task in tasks}
    for row in ctr.cli(namespace, "container", "ls").splitlines()[1:]:
        words = row.split()  # CONTAINER, IMAGE, RUNTIME
        image = "" if words[1] == "-" else words[1]
        yield One(words[0], "", image, states.get(words[0]) in {"RUNNING", "PAUSED"})


async def test_the_cris_list(cri: Cri, readers: Readers) -> None:
    pod = cri.pod("listed")
    runs = cri.run(pod, "runs", "sleep", "600")
    ended = cri.run(pod, "ended", "true")
    cri.wait(ended)
    try:
        printed = cri.listed()
        listing = await CriSource(readers, Sockets({"cri": [str(cri.socket)]}, ())).records()
    finally:
        cri.remove_pod(pod)

    assert ours(listing) == said((_of_cri(each) for each in printed), pod.id, runs, ended)


def _of_cri(listed: Any) -> One:
    if "Sandbox" in type(listed).__name__:
        return One(listed.id, listed.metadata.name, "", listed.state == 0)  # SANDBOX_READY
    is_running = listed.state == 1  # CONTAINER_RUNNING
    return One(listed.id, listed.metadata.name, listed.image.image, is_running)


async def test_podman_ps(podman: Podman, readers: Readers) -> None:
    """Whether one runs does not stand in its files: a word there would outlive a crash."""
    runs = podman.run("sleep", "600", options=["--name", "list-runs"])
    ended = podman.run("true", options=["--name", "list-ended"])
    podman.wait(ended)
    podman.pod("list-pod")
    member = podman.run("sleep", "600", options=["--pod", "list-pod", "--name", "list-member"])
    try:
        printed = json.loads(podman.cli("ps", "--all", "--format", "json"))
        storages = Storages(readers, system=(), roots=(str(podman.graph_root),))
        listing = await PodmanFiles(readers, storages).records()
    finally:
        podman.remove_pod("list-pod")
        podman.remove(runs, ended)

    rows = (One(row["Id"], row["Names"][0], row["Image"], None) for row in printed)
    assert ours(listing) == said(rows, runs, ended, member)
