"""The source "bundle" against real bundles of each runtime, and against what a stranger may put there."""

import json
import os
import shutil
import socket as socket_module
from pathlib import Path

import pytest

from ctrwatch.evidence.bundle import Bundle
from ctrwatch.evidence.files import Readers
from ctrwatch.model import Leads, Runtime
from tests.contract.data import DATA, found, ids, is_not_found, subject, why

TASKS = "run/containerd/io.containerd.runtime.v2.task"
STORAGE = "run/containers/storage/overlay-containers"


as_root = pytest.mark.skipif(os.getuid() != 0, reason="a daemon's bundle is root's")


def put(directory: Path, recorded: str) -> Leads:
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(DATA / recorded, directory / "config.json")
    return Leads(bundle=str(directory), oci_runtime="runc")


@as_root
async def test_docker_leads_to_its_data_root(readers: Readers, tmp_path: Path) -> None:
    container_id = ids("docker")["by-name"]
    leads = put(tmp_path / TASKS / "moby" / container_id, "docker/bundle.json")
    facts = found(await Bundle(readers).ask(subject(container_id, leads)))
    assert facts.runtime is Runtime.DOCKER
    assert facts.leads.docker_root == "/var/lib/docker"
    assert facts.leads.namespace == "moby"
    assert facts.process
    assert facts.process.args == ("sleep", "90000")


async def test_docker_in_docker_has_its_data_root_in_there(
    readers: Readers, tmp_path: Path
) -> None:
    container_id = ids("docker")["by-name"]
    put(tmp_path / TASKS / "moby" / container_id, "docker/bundle.json")
    leads = Leads(root=str(tmp_path), bundle=f"/{TASKS}/moby/{container_id}")
    facts = found(await Bundle(readers).ask(subject(container_id, leads)))
    assert facts.leads.docker_root == "/var/lib/docker"


@as_root
@pytest.mark.parametrize("kind", ["sandbox", "container"])
async def test_cri_of_containerd(readers: Readers, tmp_path: Path, kind: str) -> None:
    known = ids("containerd")
    leads = put(tmp_path / TASKS / "k8s.io" / known[kind], f"containerd/bundle-{kind}.json")
    facts = found(await Bundle(readers).ask(subject(known[kind], leads)))
    assert facts.runtime is Runtime.CONTAINERD
    assert facts.sandbox is (kind == "sandbox")
    assert (facts.pod_name, facts.pod_namespace, facts.pod_uid) == (
        "web2",
        "prod",
        known["pod_uid"],
    )
    assert facts.security
    assert "CAP_CHOWN" in facts.security.capabilities


@as_root
async def test_crio_container_finds_its_pod_in_the_sandboxs_bundle(
    readers: Readers, tmp_path: Path
) -> None:
    annotations = json.loads((DATA / "crio/bundle_container.json").read_text())["annotations"]
    container_id = annotations["io.kubernetes.cri-o.ContainerID"]
    sandbox_id = annotations["io.kubernetes.cri-o.SandboxID"]
    leads = put(tmp_path / STORAGE / container_id / "userdata", "crio/bundle_container.json")
    alone = found(await Bundle(readers).ask(subject(container_id, leads)))
    assert (alone.runtime, alone.name, alone.pod_name) == (Runtime.CRIO, "app", "web")
    assert alone.pod_namespace is None
    put(tmp_path / STORAGE / sandbox_id / "userdata", "crio/bundle_sandbox.json")
    facts = found(await Bundle(readers).ask(subject(container_id, leads)))
    assert (facts.pod_namespace, facts.pod_name) == ("prod", "web")
    assert facts.pod_uid == "3f1c0e6a-5f0b-4c61-9a55-0d3f7a9b1c22"


async def test_podman_leads_to_its_storage(readers: Readers, tmp_path: Path) -> None:
    container_id = ids("podman")["pd-one"]
    leads = put(tmp_path / "overlay-containers" / container_id / "userdata", "podman/bundle.json")
    facts = found(await Bundle(readers).ask(subject(container_id, leads)))
    assert facts.runtime is Runtime.PODMAN
    assert facts.leads.graph_root == str(tmp_path)


@pytest.mark.parametrize("bundle", ["", "/none/such"])
async def test_no_bundle_is_not_found(readers: Readers, bundle: str) -> None:
    assert is_not_found(await Bundle(readers).ask(subject("web", Leads(bundle=bundle))))


@pytest.mark.parametrize("owner", [os.getuid() + 1, -1], ids=["another", "nobody-knows"])
async def test_bundle_of_another_user_says_nothing(
    readers: Readers, tmp_path: Path, owner: int
) -> None:
    leads = put(tmp_path / TASKS / "default/web", "docker/bundle.json")
    refusal = why(await Bundle(readers).ask(subject("web", leads, uid=owner)))
    assert f"it belongs to uid {os.getuid()}, the container to {owner}" in refusal
    assert "sleep" not in refusal


def write_nothing(path: Path) -> None:
    path.touch()


def write_binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def write_list(path: Path) -> None:
    path.write_text("[]")


def write_wrong_types(path: Path) -> None:
    path.write_text('{"process": {"args": "rm -rf"}, "mounts": 7, "annotations": {"a": 1}}')


def write_deep(path: Path) -> None:
    path.write_text('{"process":' * 100_000)


def write_deep_annotation(path: Path) -> None:
    path.write_text('{"annotations":{"a":' + "[" * 100_000)


def make_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 100 << 20)


def make_link(path: Path) -> None:
    path.symlink_to("/etc/shadow")


def make_socket(path: Path) -> None:
    with socket_module.socket(socket_module.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    "make",
    [
        write_nothing, write_binary, write_list, write_wrong_types, write_deep,
        write_deep_annotation, make_large, make_link, os.mkfifo, make_socket, Path.mkdir,
    ],
)  # fmt: skip
async def test_what_is_no_config_is_unavailable(
    readers: Readers, socket: Path, make: object
) -> None:
    bundle = socket.parent  # a short path: a socket's has to be
    make(bundle / "config.json")  # type: ignore[operator]
    answer = await Bundle(readers).ask(subject("web", Leads(bundle=str(bundle))))
    assert why(answer).startswith(f"bundle: {bundle}/config.json: ")
    assert len(why(answer)) < 500
