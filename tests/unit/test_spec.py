"""config.json in, facts out: the edges. Real ones are in test_bundles.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctrwatch.core.spec import Spec, read_spec
from ctrwatch.model import Limits, Process, Security

DATA = Path(__file__).parents[1] / "data"
MINIMAL: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"args": ["sh"], "cwd": "/", "env": ["PASSWORD=geheim"]},
    "linux": {"namespaces": [{"type": kind} for kind in ("network", "pid", "ipc", "mount")]},
}
PRIVILEGED = json.loads((DATA / "bundles" / "docker-privileged.json").read_bytes())


def changed(base: dict[str, Any], path: str, value: object) -> Spec:
    """Read *base* with one thing changed; *path* is dotted."""
    copy = json.loads(json.dumps(base))
    *parents, last = path.split(".")
    place = copy
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return read_spec(json.dumps(copy).encode())


def security(said: Spec) -> Security:
    assert said.facts.security is not None
    return said.facts.security


def limits(said: Spec) -> Limits:
    assert said.facts.limits is not None
    return said.facts.limits


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("linux.maskedPaths", ["/proc/kcore"], id="a-masked-path"),
        pytest.param("linux.resources.devices", [], id="no-device-rule"),
        pytest.param("linux.resources.devices", [{"allow": False}], id="all-devices-denied"),
        pytest.param(
            "linux.resources.devices", [{"allow": True}, {"allow": False}], id="denied-in-the-end"
        ),
        pytest.param(
            "linux.resources.devices", [{"allow": True, "access": "r"}], id="devices-read-only"
        ),
        pytest.param(
            "linux.resources.devices", [{"allow": True, "type": "c"}], id="character-devices-only"
        ),
        pytest.param(
            "linux.resources.devices", [{"allow": True, "type": "a", "major": 1}], id="one-major"
        ),
        pytest.param(
            "process.capabilities.bounding",
            [
                name
                for name in PRIVILEGED["process"]["capabilities"]["bounding"]
                if name != "CAP_SYS_ADMIN"
            ],
            id="no-sys-admin",
        ),
    ],
)
def test_one_thing_less_is_not_privileged(path: str, value: object) -> None:
    assert security(changed(PRIVILEGED, "hostname", "x")).privileged is True
    assert security(changed(PRIVILEGED, path, value)).privileged is False


def test_podmans_word_can_add_to_what_the_spec_shows_and_never_hide_it() -> None:
    """Rootless, there are no device rules; and Docker's users can write any annotation."""
    word = "io.podman.annotations.privileged"

    assert security(changed(MINIMAL, "annotations", {word: "TRUE"})).privileged is True
    assert security(changed(PRIVILEGED, "annotations", {word: "FALSE"})).privileged is True


@pytest.mark.parametrize(
    ("namespaces", "network"),
    [
        pytest.param([], True, id="not-listed"),
        pytest.param(None, True, id="null"),
        pytest.param([{"type": "network"}], False, id="new"),
        pytest.param([{"type": "network", "path": ""}], False, id="empty-path"),
        pytest.param([{"type": "network", "path": "/proc/1/ns/net"}], True, id="of-pid-1"),
        pytest.param([{"type": "network", "path": "/proc/12/ns/net"}], None, id="of-another"),
        pytest.param(
            [{"type": "network", "path": "/var/run/docker/netns/default"}], True, id="docker-host"
        ),
        pytest.param(
            [{"type": "network", "path": "/run/netns/default"}], None, id="a-users-called-default"
        ),
        pytest.param(
            [{"type": "network", "path": "/var/run/netns/cni-4-a"}], False, id="containerd-cni"
        ),
        pytest.param([{"type": "network", "path": "/run/netns/netns-4-a"}], False, id="podman"),
        pytest.param([{"type": "network", "path": "/run/netns/blue"}], None, id="a-users"),
    ],
)
def test_host_network(namespaces: object, network: bool | None) -> None:
    assert security(changed(MINIMAL, "linux.namespaces", namespaces)).host_network is network


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({"io.kubernetes.cri-o.NamespaceOptions": "{}"}, id="not-crios"),
        pytest.param(
            {
                "io.container.manager": "cri-o",
                "io.kubernetes.cri-o.NamespaceOptions": '{"network": "2"}',
            },
            id="no-number",
        ),
    ],
)
def test_an_annotation_that_says_nothing_of_namespaces(annotations: dict[str, str]) -> None:
    raw = json.loads((DATA / "crio" / "bundle_sandbox.json").read_bytes())

    assert security(changed(raw, "annotations", annotations)).host_network is None


def test_an_annotation_can_not_deny_what_the_namespaces_prove() -> None:
    raw = {**MINIMAL, "linux": {"namespaces": []}}
    lie = {"io.container.manager": "cri-o", "io.kubernetes.cri-o.NamespaceOptions": "{}"}

    assert security(changed(raw, "annotations", lie)).host_network is True


def test_without_linux_nothing_is_said_of_namespaces() -> None:
    found = security(read_spec(b"{}"))

    assert (found.host_network, found.host_pid, found.host_ipc) == (None, None, None)
    assert (found.host_uts, found.proc_mount) == (None, "")


@pytest.mark.parametrize(
    ("seccomp", "shown"),
    [
        pytest.param(None, "unconfined", id="null"),
        pytest.param({"defaultAction": "SCMP_ACT_ERRNO"}, "filtered", id="denies"),
        pytest.param({"defaultAction": "SCMP_ACT_ALLOW"}, "unconfined", id="allows-all"),
        pytest.param(
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["bpf"]}]},
            "filtered",
            id="allows-all-but-some",
        ),
    ],
)
def test_seccomp(seccomp: object, shown: str) -> None:
    assert security(changed(MINIMAL, "linux.seccomp", seccomp)).seccomp == shown


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param(None, Limits(), id="null"),
        pytest.param({"memory": {"limit": 0}}, Limits(), id="memory-0"),
        pytest.param({"memory": {"limit": -1}}, Limits(), id="memory-unlimited"),
        pytest.param({"memory": {"limit": 2**63 - 4096}}, Limits(), id="memory-all-pages"),
        pytest.param({"pids": {"limit": -1}}, Limits(), id="pids-unlimited"),
        pytest.param({"cpu": {"quota": -1, "period": 100000}}, Limits(), id="cpu-unlimited"),
        pytest.param({"cpu": {"quota": 25000}}, Limits(cpu_cores=0.25), id="cpu-default-period"),
        pytest.param(
            {"cpu": {"quota": 25000, "period": 0}}, Limits(cpu_cores=0.25), id="cpu-period-0"
        ),
        pytest.param(
            {"unified": {"memory.max": "1024", "cpu.max": "50000 100000", "pids.max": "7"}},
            Limits(memory_bytes=1024, cpu_cores=0.5, pids=7),
            id="unified",
        ),
        pytest.param(
            {"unified": {"memory.max": "max", "cpu.max": "max 100000", "pids.max": "max"}},
            Limits(),
            id="unified-unlimited",
        ),
        pytest.param({"unified": {"cpu.max": "200000"}}, Limits(cpu_cores=2.0), id="one-word"),
        pytest.param({"unified": {"memory.max": "9" * 5000}}, Limits(), id="unified-hostile"),
        pytest.param(
            {"unified": {"memory.max": "1"}, "memory": {"limit": 2}},
            Limits(memory_bytes=2),
            id="both",
        ),
    ],
)
def test_limits(resources: object, expected: Limits) -> None:
    assert limits(changed(MINIMAL, "linux.resources", resources)) == expected


@pytest.mark.parametrize(
    ("mount", "shown"),
    [
        pytest.param({"type": "bind", "options": ["ro"]}, True, id="bind"),
        pytest.param({"type": "none", "options": ["rbind", "rw"]}, True, id="none-with-rbind"),
        pytest.param({"options": ["bind"]}, True, id="no-type"),
        pytest.param({"type": "tmpfs", "options": ["ro"]}, False, id="tmpfs"),
        pytest.param({"type": "none"}, False, id="none-without-bind"),
    ],
)
def test_a_mount_from_the_host(mount: dict[str, Any], shown: bool) -> None:
    found = security(changed(MINIMAL, "mounts", [{"source": "/a", "destination": "/b", **mount}]))

    assert bool(found.mounts) is shown


@pytest.mark.parametrize(
    ("option", "read_only"), [("ro", True), ("rro", True), ("rw", False), ("rprivate", False)]
)
def test_a_read_only_mount(option: str, read_only: bool) -> None:
    mount = {"source": "/a", "destination": "/b", "type": "bind", "options": [option]}

    assert security(changed(MINIMAL, "mounts", [mount])).mounts[0].read_only is read_only


@pytest.mark.parametrize(
    ("options", "propagation"),
    [
        pytest.param(["rbind", "rshared"], "rshared", id="rshared"),
        pytest.param(["slave", "rbind"], "slave", id="slave"),
        pytest.param(["rbind"], "", id="not-said"),
    ],
)
def test_a_mounts_propagation(options: list[str], propagation: str) -> None:
    mount = {"source": "/a", "destination": "/b", "type": "bind", "options": options}

    assert security(changed(MINIMAL, "mounts", [mount])).mounts[0].propagation == propagation


DENIED: dict[str, Any] = {"allow": False, "access": "rwm"}


@pytest.mark.parametrize(
    ("rules", "uses"),
    [
        pytest.param([], False, id="no-rule"),
        pytest.param([DENIED], False, id="denied"),
        pytest.param([DENIED, {"allow": True, "type": "b", "access": "m"}], False, id="mknod"),
        pytest.param([DENIED, {"allow": True, "type": "b", "access": "r"}], True, id="read"),
        pytest.param(
            [DENIED, {"allow": True, "type": "b", "major": 8, "minor": 0}], True, id="one"
        ),
        pytest.param([DENIED, {"allow": True, "type": "c"}], False, id="character-devices"),
        pytest.param([{"allow": True}], True, id="all"),
        pytest.param([{"allow": True}, DENIED], False, id="denied-in-the-end"),
        pytest.param(
            [{"allow": True}, {**DENIED, "type": "b", "major": 8, "minor": 0}],
            True,
            id="all-but-one",
        ),
    ],
)
def test_block_devices_by_rule(rules: list[dict[str, Any]], uses: bool) -> None:
    found = security(changed(MINIMAL, "linux.resources", {"devices": rules}))

    assert found.block_devices is uses


@pytest.mark.parametrize(("kind", "uses"), [("b", True), ("c", False)])
def test_a_block_device_among_its_devices_whatever_it_is_called(kind: str, uses: bool) -> None:
    devices = [{"path": "/dev/fuse", "type": kind}]

    assert security(changed(MINIMAL, "linux.devices", devices)).block_devices is uses


@pytest.mark.parametrize(
    ("masked", "shown"),
    [
        pytest.param(["/proc/kcore", "/sys/firmware"], "default", id="of-proc"),
        pytest.param(["/sys/firmware"], "unmasked", id="of-sys-only"),
        pytest.param([], "unmasked", id="none"),
        pytest.param(None, "unmasked", id="null"),
    ],
)
def test_proc_mount(masked: object, shown: str) -> None:
    assert security(changed(MINIMAL, "linux.maskedPaths", masked)).proc_mount == shown


def test_cpu_shares() -> None:
    assert limits(changed(MINIMAL, "linux.resources", {"cpu": {"shares": 2}})).cpu_shares == 2
    assert limits(changed(MINIMAL, "linux.resources", {"cpu": {"shares": 0}})).cpu_shares is None


def test_apparmor_selinux_and_a_users_name() -> None:
    said = changed(
        MINIMAL,
        "process",
        {"apparmorProfile": "docker-default", "selinuxLabel": "s0", "user": {"username": "me"}},
    )

    assert (security(said).apparmor, security(said).selinux) == ("docker-default", "s0")
    assert said.facts.process == Process(user="me")


def test_environment_values_leave_no_trace() -> None:
    assert "geheim" not in repr(read_spec(json.dumps(MINIMAL).encode()))
