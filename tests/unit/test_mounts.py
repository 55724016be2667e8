"""What of the host a mount shows: what engines mount by themselves is none of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctrwatch.core.mounts import is_host_path
from ctrwatch.core.spec import read_spec
from ctrwatch.model import Mount

DATA = Path(__file__).parents[1] / "data"
ID = "0a1b2c3d4e5f6789" * 4
POD = "5f0c38ab-3b18-4b5f-8a2c-7e0f6ab7f3a1"


def mount(source: str, destination: str = "/m", *, read_only: bool = False) -> Mount:
    return Mount(source=source, destination=destination, type="bind", read_only=read_only)


@pytest.mark.parametrize(
    "source",
    [
        f"/var/lib/docker/containers/{ID}/hosts",
        f"/data/docker/containers/{ID}/mounts/shm",
        "/var/lib/docker/volumes/vol/_data",
        "/var/lib/docker/volumes/vol/_data/sub",
        f"/run/containerd/io.containerd.grpc.v1.cri/sandboxes/{ID}/shm",
        f"/var/lib/containerd/io.containerd.grpc.v1.cri/containers/{ID}/volumes/x",
        f"/run/user/1000/containers/overlay-containers/{ID}/userdata/hosts",
        f"/var/lib/containers/storage/vfs-containers/{ID}/userdata/shm",
        f"/var/lib/nerdctl/1935db59/containers/default/{ID}/resolv.conf",
        f"/var/lib/nerdctl/1935db59/etchosts/default/{ID}/hosts",
        "/var/lib/nerdctl/1935db59/volumes/default/vol/_data",
        f"/var/lib/kubelet/pods/{POD}/etc-hosts",
        f"/var/lib/kubelet/pods/{POD}/volumes/kubernetes.io~secret/token",
        f"/var/lib/kubelet/pods/{POD}/volume-subpaths/config/web/0",
        f"/var/lib/kubelet/pods/{POD}/containers/web/5c1d2e3f",
        "/var/lib/docker/buildkit/executor/hosts.k0hiyz1z6z0gtcywxxnaecf4k",
        "/var/tmp/buildah123456789/mnt",
    ],
)
def test_what_an_engine_or_the_kubelet_made(source: str) -> None:
    assert not is_host_path(mount(source))


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/etc",
        "/srv/data",
        "/var/lib/docker",
        "/var/lib/docker/volumes",
        f"/var/lib/docker/containers/{ID}",
        f"/var/lib/docker/containers/{ID[1:]}/hosts",
        f"/var/lib/docker/containers/{ID}/../../../../../etc",
        "/var/lib/docker/volumes/vol/_data/../../../../../../etc",
        f"/var/lib/kubelet/pods/{POD}",
        "/var/lib/kubelet/pods",
        "/dev/shm/x",
        "/run/docker.sock",
    ],
)
def test_what_is_the_hosts(source: str) -> None:
    assert is_host_path(mount(source, read_only=True))


def test_the_hosts_names_are_a_host_path_if_they_can_be_written() -> None:
    assert not is_host_path(mount("/etc/hosts", "/etc/hosts", read_only=True))
    assert is_host_path(mount("/etc/hosts", "/etc/hosts"))
    assert is_host_path(mount("/etc/hosts", "/mnt/hosts", read_only=True))


def test_an_init_of_the_engines() -> None:
    assert not is_host_path(mount("/usr/bin/docker-init", "/sbin/docker-init", read_only=True))
    assert is_host_path(mount("/usr/bin/docker-init", "/sbin/docker-init"))


@pytest.mark.parametrize(
    ("bundle", "hosts"),
    [
        ("docker-plain", []),
        ("docker-host", []),
        ("docker-joined", []),
        ("docker-limits", ["/mnt/hosts"]),
        ("podman-plain", []),
        ("podman-host", []),
        ("podman-limits", ["/mnt/hosts"]),
        ("podman-pod-infra", []),
        ("podman-pod-member", []),
        ("cri-container", []),
        ("cri-sandbox", []),
        ("cri-host-sandbox", []),
        ("ctr-host", []),
        ("ctr-limits", ["/mnt"]),
        ("buildkit-step", []),
    ],
)
def test_of_a_real_bundle(bundle: str, hosts: list[str]) -> None:
    raw = (DATA / "bundles" / f"{bundle}.json").read_bytes()
    security = read_spec(raw).facts.security
    assert security is not None
    assert [each.destination for each in security.mounts if is_host_path(each)] == hosts
    assert json.loads(raw)["mounts"]
