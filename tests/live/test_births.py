"""
Every kind of container, born for real: seen once, complete, and what its runtime says of it.

Each test compares all ten fields with the runtime's own answer after the birth.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.bed import LABELS, Bed
from tests.live.runtimes import IMAGE, PAUSE, Cri, Ctr, Docker, Podman, Runc
from tests.live.watching import SENSORS, Event, Watching, unified

IMPORTED = {"container_image_digest": "no_registry_digest"}
NOT_IN_POD = dict.fromkeys(("pod_name", "pod_namespace", "pod_uid"), "not_in_pod")


@pytest.fixture(scope="module", params=SENSORS)
def watching(request: pytest.FixtureRequest) -> Iterator[Watching]:
    with Watching("--sensor", request.param) as watching:
        yield watching


def ten(event: Event) -> dict[str, object]:
    """The ten arguments, without the creation time: that is the kernel's word alone."""
    names = list(event)[list(event).index("runtime") :][:10]
    return {name: event[name] for name in names if name != "ctime"}


def born(watching: Watching, container: str) -> Event:
    """The create of a container, which must be complete, in time, and the only one."""
    created = watching.line("container_create", container)
    started = watching.line("container_start", container).event
    assert created.event["evidence"]["status"] == "complete", created.event["evidence"]
    assert created.event["time"] < started["time"]
    assert watching.names(container)[:2] == ["container_create", "container_start"]
    return created.event


def reasons(event: Event) -> dict[str, str]:
    """Why fields are empty. A busy host's create may leave without the first process."""
    missing = event["evidence"]["missing"]
    return {field: reason for field, reason in missing.items() if field != "init.pid"}


def init_pid(watching: Watching, container: str) -> int | None:
    """As the start says, which the create must not contradict."""
    created, started = (
        watching.event(name, container)["init"]["pid"]
        for name in ("container_create", "container_start")
    )
    assert created in (None, started)
    return started  # type: ignore[no-any-return]


def test_docker_run_of_an_image_that_was_built_here(watching: Watching, docker: Docker) -> None:
    first = docker.run("true")
    docker.cli("commit", "--change", "LABEL made=here", first, "built-here:1")
    container = docker.run(
        "sleep", "600",
        image="built-here:1",
        options=["--name", "web", "--memory", "64m", "--cpus", "0.5", "--label", "team=blue"],
    )  # fmt: skip
    event, says = born(watching, container), docker.inspect(container)

    assert ten(event) == {
        "runtime": "docker",
        "container_id": says["Id"],
        "container_image": "docker.io/library/" + says["Config"]["Image"],
        "container_image_digest": "",
        "container_name": says["Name"].removeprefix("/"),
        "pod_name": "",
        "pod_namespace": "",
        "pod_uid": "",
        "pod_sandbox": False,
    }
    assert reasons(event) == {**NOT_IN_POD, "container_image_digest": "no_registry_digest"}
    assert event["image"]["id"] == says["Image"]
    labels = {**LABELS, "made": "here", "team": "blue"}
    assert event["labels"] == says["Config"]["Labels"] == labels
    assert init_pid(watching, container) == says["State"]["Pid"]
    limits = {"memory_bytes": 64 << 20, "cpu_cores": 0.5, "pids": None, "cpu_shares": None}
    assert event["limits"] == limits
    assert event["process"] == {"args": ["sleep", "600"], "cwd": "/", "user": "0:0"}
    assert event["security"]["privileged"] is says["HostConfig"]["Privileged"] is False
    assert event["security"]["host_network"] is False
    assert event["creator"]["comm"] == "runc"
    assert event["creator"]["uid"] == 0
    docker.remove(first, container)
    assert watching.event("container_remove", container)["id"] != event["id"]
    assert watching.names(container).count("container_create") == 1


def test_docker_run_of_a_pulled_image_has_the_registry_digest(
    watching: Watching, bed: Bed, docker: Docker
) -> None:
    name = bed.registry.name("busybox:test")
    docker.pull(name)
    container = docker.run("sleep", "600", image=name)
    event = born(watching, container)
    [digest] = docker.inspect_image(name)["RepoDigests"]

    assert event["container_image"] == name
    assert event["container_image_digest"] == digest.partition("@")[2]
    docker.remove(container)


def test_docker_run_rm_of_a_program_that_ends_at_once(watching: Watching, docker: Docker) -> None:
    docker.cli("run", "--rm", "--name", "short", "--network", "none", "busybox:test", "true")
    watching.until(lambda: bool(named(watching, "short")), "the container called short")
    container = named(watching, "short")[0]["container_id"]
    event = born(watching, container)
    watching.event("container_remove", container)

    assert (event["container_image"], event["container_name"]) == (IMAGE, "short")
    assert watching.names(container) == ["container_create", "container_start", "container_remove"]


def test_docker_restart_is_a_new_birth_of_the_same_id(watching: Watching, docker: Docker) -> None:
    container = docker.run("sleep", "600")
    first = born(watching, container)
    docker.restart(container)
    watching.event("container_start", container, nth=2)
    second = watching.event("container_create", container, nth=2)

    assert watching.names(container) == [
        "container_create", "container_start", "container_remove",
        "container_create", "container_start",
    ]  # fmt: skip
    assert first["id"] != second["id"]
    assert ten(first) == ten(second)
    assert second["evidence"]["status"] == "complete"
    docker.remove(container)


def test_docker_on_the_hosts_namespaces_with_the_hosts_root(
    watching: Watching, docker: Docker
) -> None:
    container = docker.cli(
        "run", "--detach", "--cap-add", "SYS_ADMIN", "--network", "host", "--pid", "host",
        "--ipc", "host", "--volume", "/:/host:ro", "busybox:test", "sleep", "600",
    )  # fmt: skip
    event = born(watching, container)
    security = event["security"]

    assert security["privileged"] is False  # a true one: tests/unit/test_spec.py, captured
    assert (security["host_network"], security["host_pid"], security["host_ipc"]) == (True,) * 3
    assert "CAP_SYS_ADMIN" in security["capabilities"]
    [root] = [mount for mount in security["mounts"] if mount["destination"] == "/host"]
    assert (root["source"], root["read_only"]) == ("/", True)
    docker.remove(container)


def test_ctr_run_with_a_free_name_in_a_namespace_of_its_own(watching: Watching, ctr: Ctr) -> None:
    ctr.run("web-1", "sleep", "600", namespace="shop")
    event, says = born(watching, "web-1"), ctr.inspect("web-1", "shop")

    assert ten(event) == {
        "runtime": "containerd",
        "container_id": says["ID"],
        "container_image": says["Image"],
        "container_image_digest": "",
        "container_name": "web-1",
        "pod_name": "",
        "pod_namespace": "",
        "pod_uid": "",
        "pod_sandbox": False,
    }
    assert reasons(event) == NOT_IN_POD | IMPORTED
    assert event["cgroup"]["path"] == "/shop/web-1"
    assert init_pid(watching, "web-1") == ctr.pid("web-1", "shop")
    ctr.remove("web-1", "shop")


def test_one_free_name_in_two_namespaces_is_two_containers(watching: Watching, ctr: Ctr) -> None:
    for namespace in ("north", "south"):
        ctr.run("twin", "sleep", "600", namespace=namespace)
    watching.event("container_start", "twin", nth=2)
    paths = [
        event["cgroup"]["path"]
        for event in watching.of("twin")
        if event["event"] == "container_create"
    ]

    assert paths == ["/north/twin", "/south/twin"]
    for namespace in ("north", "south"):
        ctr.remove("twin", namespace)


def test_cri_pod_has_a_sandbox_and_a_container(watching: Watching, cri: Cri) -> None:
    pod = cri.pod("checkout", "prod")
    container = cri.run(pod, "app", "sleep", "600")
    sandbox_event, event = born(watching, pod.id), born(watching, container)
    says, pod_says = cri.status(container), cri.pod_status(pod)

    in_pod = {
        "runtime": "containerd",
        "pod_name": pod_says.metadata.name,
        "pod_namespace": pod_says.metadata.namespace,
        "pod_uid": pod_says.metadata.uid,
    }
    assert ten(event) == {
        **in_pod,
        "container_id": says.id,
        "container_image": says.image.image,
        "container_image_digest": says.image_ref.partition("@")[2],
        "container_name": says.metadata.name,
        "pod_sandbox": False,
    }
    assert event["image"]["id"] == cri.image_status().id
    assert reasons(event) == IMPORTED
    assert ten(sandbox_event) == {
        **in_pod,
        "container_id": pod_says.id,
        "container_image": PAUSE,
        "container_image_digest": "",
        "container_name": "",
        "pod_sandbox": True,
    }
    assert reasons(sandbox_event) == {"container_name": "has_none", **IMPORTED}
    assert event["process"]["args"] == ["sleep", "600"]
    cri.remove_pod(pod)
    watching.event("container_remove", container)


def test_podman_run(watching: Watching, podman: Podman) -> None:
    container = podman.run("sleep", "600", options=["--name", "db", "--label", "team=blue"])
    event, says = born(watching, container), podman.inspect(container)

    assert ten(event) == {
        "runtime": "podman",
        "container_id": says["Id"],
        "container_image": says["ImageName"],
        "container_image_digest": says["ImageDigest"],
        "container_name": says["Name"],
        "pod_name": "",
        "pod_namespace": "",
        "pod_uid": "",
        "pod_sandbox": False,
    }
    assert reasons(event) == NOT_IN_POD
    assert event["image"]["id"] == f"sha256:{says['Image']}"
    assert event["labels"] == says["Config"]["Labels"] == {**LABELS, "team": "blue"}
    assert init_pid(watching, container) == says["State"]["Pid"]
    podman.remove(container)


def test_podman_pod_is_no_container_but_its_members_are(watching: Watching, podman: Podman) -> None:
    pod = podman.pod("shop")
    container = podman.run("sleep", "600", options=["--pod", "shop", "--name", "till"])
    says = podman.inspect_pod("shop")
    infra = says["InfraContainerID"]
    infra_event, event = born(watching, infra), born(watching, container)

    for member, sandbox in ((infra_event, True), (event, False)):
        assert member["pod_name"] == says["Name"]
        assert member["pod_uid"] == says["Id"]
        assert member["pod_sandbox"] is sandbox
        assert reasons(member) == {"pod_namespace": "has_none"}
    inspected = podman.inspect(container)
    assert event["container_name"] == inspected["Name"]
    assert event["container_image"] == inspected["ImageName"]
    assert event["container_image_digest"] == inspected["ImageDigest"]
    assert infra_event["container_image"] == podman.inspect(infra)["ImageName"]
    assert watching.of(pod) == []
    podman.remove_pod("shop")


def test_plain_runc_is_a_container_without_an_image(watching: Watching, runc: Runc) -> None:
    runc.run("bare", "sleep", "600")
    event = born(watching, "bare")

    assert (event["runtime"], event["container_name"]) == ("runc", "bare")
    assert reasons(event) == {
        **NOT_IN_POD, "container_image": "no_image", "container_image_digest": "no_image"
    }  # fmt: skip
    assert init_pid(watching, "bare") == runc.state("bare")["pid"]
    runc.remove("bare")


def test_children_of_a_container_are_the_container_at_work(
    watching: Watching, docker: Docker
) -> None:
    """docker-in-docker's `init`, crun's `container`, systemd's `init.scope`, in its cgroup."""
    container = docker.run("sleep", "600")
    own = unified() / born(watching, container)["cgroup"]["path"].lstrip("/")
    for child in ("init", "container", "init.scope"):
        (own / child).mkdir()
        (own / child).rmdir()
    docker.cli("exec", container, "true")
    later = docker.run("true")
    watching.event("container_remove", later)

    assert watching.names(container) == ["container_create", "container_start"]
    docker.remove(container, later)
    watching.event("container_remove", container)
    assert len(watching.names(container)) == 3


def named(watching: Watching, name: str) -> list[Event]:
    return [line.event for line in watching.lines if line.event.get("container_name") == name]
