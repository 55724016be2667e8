"""Real bundles in, facts out: who the container is, and what it may do (tests/data/bundles)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ctrwatch.core.annotations import who
from ctrwatch.core.spec import read_spec
from ctrwatch.model import Facts, Leads, Limits, Missing, Mount, Process, Runtime, Security

DATA = Path(__file__).parents[1] / "data"


def security(name: str) -> Security:
    found = read_spec((DATA / f"{name}.json").read_bytes()).facts.security
    assert found is not None
    return found


class Expected(NamedTuple):
    privileged: bool = False
    hosts: tuple[bool | None, bool | None, bool | None] = (False, False, False)
    capabilities: int = 14
    seccomp: str = "filtered"
    no_new_privileges: bool = False
    read_only: bool = False


BUNDLES = {
    "docker-plain": Expected(),
    "docker-privileged": Expected(True, capabilities=38, seccomp="unconfined"),
    "docker-host": Expected(hosts=(True, True, True)),
    "docker-joined": Expected(hosts=(None, None, False)),
    "docker-limits": Expected(no_new_privileges=True, read_only=True),
    "docker-unconfined": Expected(capabilities=38, seccomp="unconfined"),
    "ctr-plain": Expected(seccomp="unconfined", no_new_privileges=True),
    "ctr-privileged": Expected(True, capabilities=40, seccomp="unconfined", no_new_privileges=True),
    "ctr-host": Expected(hosts=(True, False, False), seccomp="unconfined", no_new_privileges=True),
    "cri-sandbox": Expected(
        hosts=(True, False, False), seccomp="unconfined", no_new_privileges=True, read_only=True
    ),
    "cri-container": Expected(hosts=(None, False, None), seccomp="unconfined"),
    "cri-host-sandbox": Expected(
        hosts=(True, True, True), seccomp="unconfined", no_new_privileges=True, read_only=True
    ),
    "cri-privileged": Expected(
        True, hosts=(None, None, None), capabilities=40, seccomp="unconfined"
    ),
    "podman-plain": Expected(),
    "podman-privileged": Expected(True, capabilities=40, seccomp="unconfined"),
    "podman-host": Expected(hosts=(True, True, True)),
    "podman-limits": Expected(no_new_privileges=True, read_only=True),
    "podman-unconfined": Expected(capabilities=40, seccomp="unconfined"),
    "podman-pod-infra": Expected(),
    "podman-pod-member": Expected(hosts=(None, False, None)),
    "buildkit-step": Expected(),
    "runc-plain": Expected(
        capabilities=3, seccomp="unconfined", no_new_privileges=True, read_only=True
    ),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_security_of_a_real_bundle(name: str) -> None:
    found = security(f"bundles/{name}")

    assert BUNDLES[name] == (
        found.privileged,
        (found.host_network, found.host_pid, found.host_ipc),
        len(found.capabilities),
        found.seccomp,
        found.no_new_privileges,
        found.read_only,
    )
    assert list(found.capabilities) == sorted(found.capabilities)


@pytest.mark.parametrize(
    ("name", "proc_mount", "block_devices", "host_uts"),
    [
        pytest.param("docker-plain", "default", False, False, id="docker"),
        pytest.param("docker-privileged", "unmasked", True, False, id="docker-privileged"),
        pytest.param("docker-host", "default", False, True, id="docker-host"),
        pytest.param("podman-limits", "default", False, False, id="podman-one-device"),
        pytest.param("ctr-privileged", "unmasked", True, False, id="ctr-privileged"),
        pytest.param("cri-container", "unmasked", False, None, id="joins-its-sandbox"),
        pytest.param("runc-plain", "default", False, False, id="runc"),
    ],
)
def test_proc_disks_and_the_host_name_of_a_real_bundle(
    name: str, proc_mount: str, block_devices: bool, host_uts: bool | None
) -> None:
    found = security(f"bundles/{name}")

    assert (found.proc_mount, found.block_devices, found.host_uts) == (
        proc_mount,
        block_devices,
        host_uts,
    )


def test_sysctls_of_a_real_bundle() -> None:
    assert security("bundles/docker-plain").sysctls == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert security("bundles/podman-plain").sysctls == {}


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        pytest.param("sandbox", (True, False, False), id="sandbox-says-what-it-asked-for"),
        pytest.param("container", (True, None, None), id="container-joins-its-sandbox"),
    ],
)
def test_a_real_bundle_of_crio(name: str, hosts: tuple[bool | None, ...]) -> None:
    """PrivilegedRuntime is true of a sandbox on the host's network: it says nothing of rights."""
    said = read_spec((DATA / "crio" / f"bundle_{name}.json").read_bytes())
    found = security(f"crio/bundle_{name}")

    assert (found.host_network, found.host_pid, found.host_ipc) == hosts
    assert found.privileged is False
    assert said.annotations["io.container.manager"] == "cri-o"
    assert said.hostname == "vm"
    assert said.cgroups_path.startswith("/kubepods/burstable/pod3f1c0e6a-")


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_what_a_user_asked_for(engine: str) -> None:
    said = read_spec((DATA / "bundles" / f"{engine}-limits.json").read_bytes())
    found = security(f"bundles/{engine}-limits")

    assert said.facts.limits == Limits(memory_bytes=64 << 20, cpu_cores=1.5, pids=100)
    assert said.facts.process == Process(args=("sleep", "600"), cwd="/tmp", user="1000:100")
    assert found.user == "1000:100"
    assert found.devices == ("/dev/mynull",)
    mounts = {mount.destination: mount for mount in found.mounts}
    assert mounts["/mnt/hosts"] == Mount(
        source="/etc/hosts",
        destination="/mnt/hosts",
        type="bind",
        read_only=True,
        propagation="rprivate",
    )
    assert mounts["/data"].source.endswith("/volumes/vol/_data")
    assert not mounts["/data"].read_only
    assert "/proc" not in mounts
    assert said.cut == ()


def test_limits_of_ctr_and_the_cri() -> None:
    for name, shares in (("ctr-limits", 1024), ("cri-privileged", None)):
        said = read_spec((DATA / "bundles" / f"{name}.json").read_bytes())
        assert said.facts.limits == Limits(memory_bytes=64 << 20, cpu_cores=0.5, cpu_shares=shares)


PLACES: dict[str, str] = json.loads((DATA / "bundles" / "paths.json").read_bytes())
TASKS = "/run/containerd/io.containerd.runtime.v2.task/"
NOT_IN_POD = dict.fromkeys(("pod_name", "pod_namespace", "pod_uid"), Missing.NOT_IN_POD)
NO_IMAGE = dict.fromkeys(("container_image", "container_image_digest"), Missing.NO_IMAGE)
BUSYBOX = "docker.io/library/busybox:test"
SANDBOX = "de8f167a83a8ac5fc3400c725a6e86cd16e5debe680d49e12ce27fedfb30ad1a"
WEB = Facts(
    runtime=Runtime.CONTAINERD,
    pod_name="web",
    pod_namespace="prod",
    pod_uid="ca3ef182-6a05-4f87-bdbd-839d8defb2c6",
)
STORAGE = "/var/lib/containers/storage"
INFRA = "5a74f02578c1c2cfabe26467c24dd0733db83afeac7b8556d70344ed7534ce6b"

WHO: dict[str, tuple[Facts, dict[str, Any]]] = {
    "docker-plain": (Facts(runtime=Runtime.DOCKER), {"namespace": "moby"}),
    "ctr-plain": (
        Facts(runtime=Runtime.CONTAINERD, name="web", sandbox=False, absent=NOT_IN_POD),
        {"namespace": "batch"},
    ),
    "cri-sandbox": (
        msgspec.structs.replace(WEB, sandbox=True, absent={"container_name": Missing.HAS_NONE}),
        {"namespace": "k8s.io", "sandbox_id": SANDBOX},
    ),
    "cri-container": (
        msgspec.structs.replace(WEB, image=BUSYBOX, name="app", sandbox=False),
        {"namespace": "k8s.io", "sandbox_id": SANDBOX, "image_ref": BUSYBOX},
    ),
    "podman-plain": (Facts(runtime=Runtime.PODMAN), {"graph_root": STORAGE}),
    "podman-pod-infra": (Facts(runtime=Runtime.PODMAN), {"graph_root": STORAGE}),
    "podman-pod-member": (
        Facts(runtime=Runtime.PODMAN, sandbox=False, absent={"pod_namespace": Missing.HAS_NONE}),
        {"graph_root": STORAGE, "sandbox_id": INFRA},
    ),
    "buildkit-step": (
        Facts(
            runtime=Runtime.BUILDKIT,
            sandbox=False,
            labels={},
            absent={**NOT_IN_POD, **NO_IMAGE, "container_name": Missing.HAS_NONE},
        ),
        {},
    ),
    "runc-plain": (
        Facts(
            runtime=Runtime.RUNC,
            name="web-1",
            sandbox=False,
            labels={"a": "b"},
            absent={**NOT_IN_POD, **NO_IMAGE},
        ),
        {},
    ),
}


@pytest.mark.parametrize("name", WHO)
def test_who_a_real_bundle_is(name: str) -> None:
    annotations = read_spec((DATA / "bundles" / f"{name}.json").read_bytes()).annotations
    facts, leads = WHO[name]

    said = who(annotations, PLACES[name], "runc", "web-1")

    assert said.leads == Leads(oci_runtime="runc", bundle=PLACES[name], **leads)
    assert said == msgspec.structs.replace(facts, leads=said.leads)


def test_who_a_real_container_of_crio_is() -> None:
    annotations = read_spec((DATA / "crio" / "bundle_container.json").read_bytes()).annotations
    bundle = "/run/containers/storage/overlay-containers/a11b7284/userdata"

    assert who(annotations, bundle, "runc") == Facts(
        runtime=Runtime.CRIO,
        image="docker.io/library/app:1",
        image_digest="sha256:5e6993889eb9a1566959f93709eca3212c9b07a1ccb0f6014b6a8ce5a7940319",
        image_id="sha256:202abf2f2ccc6a56b30140da95e944d3ba8403e026093752f0a7dd3d58eec1bf",
        name="app",
        pod_name="web",
        sandbox=False,
        labels={"io.kubernetes.container.name": "app", "io.kubernetes.pod.name": "web"},
        leads=Leads(
            oci_runtime="runc",
            bundle=bundle,
            graph_root=STORAGE,  # the bundle lies in the run root
            sandbox_id="e4c33e5cd03cf9c72346da7d6cb6b5d6505a1d2281c192e71e3be26bdc9acc49",
            image_ref="docker.io/library/app:1",
        ),
    )


def test_who_a_real_sandbox_of_crio_is() -> None:
    annotations = read_spec((DATA / "crio" / "bundle_sandbox.json").read_bytes()).annotations

    said = who(annotations, "/run/containers/storage/overlay-containers/e4c33e5c/userdata", "crun")

    assert (said.runtime, said.sandbox, said.name) == (Runtime.CRIO, True, "POD")
    assert (said.pod_name, said.pod_namespace) == ("web", "prod")
    assert said.pod_uid == "3f1c0e6a-5f0b-4c61-9a55-0d3f7a9b1c22"
    assert (said.image, said.image_digest, said.absent) == ("localhost/pause:1", None, {})
