"""Containers that break the rules of the packs that ship, and one that breaks none.

Each says how a user makes it, and which rules it breaks; what it breaks besides is not said.
docs/policies-table.md shows this.
"""

import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tests.live.bed import Bed
from tests.live.daemons import BedError
from tests.live.runtimes import IMAGE
from tests.live.watching import unified

SLEEP: Final = ("sleep", "600")
BASELINE, RESTRICTED = "pod-security-baseline", "pod-security-restricted"
CIS, ATTACK, APPROVED = "cis-docker", "attack-containers", "approved-images"
LSM: Final = "cis-docker-lsm"  # cis-docker, told that the host has AppArmor and SELinux

# Every rule of every pack holds for it.
MODEST: Final = (
    *("--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--read-only", "--memory", "64m", "--cpu-shares", "512", "--pids-limit", "64"),
    *("--volume", "ctrwatch-data:/data"),
)


class Offender(NamedTuple):
    how: str  # as a user would type it
    breaks: dict[str, str]  # a pack's rules, with a space between
    start: Callable[[Bed], str]  # returns the container's id


def _docker(*options: str, program: tuple[str, ...] = SLEEP) -> Callable[[Bed], str]:
    def start(bed: Bed) -> str:
        # What it is told to do may be refused by this host, after the container's birth.
        network = () if "--network" in options else ("--network", "none")
        container = bed.docker.cli("create", *network, *options, IMAGE, *program)
        with suppress(BedError):
            bed.docker.cli("start", container)
        return container

    return start


def _mounts(bed: Bed) -> str:
    shared = bed.home / "shared"
    binds = (f"{bed.docker.socket}:/s/docker.sock", "/proc:/host/proc:ro", "/etc:/host/etc")
    with _shared_mount(shared):
        return _docker(
            *(word for bind in (*binds, f"{shared}:/shared:rshared") for word in ("--volume", bind))
        )(bed)


@contextmanager
def _shared_mount(directory: Path) -> Iterator[None]:
    """What is to be shared with a container must be so on the host."""
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "--make-shared", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def _git_volume(bed: Bed) -> str:
    """Where a kubelet would put it."""
    pod = "pods/5f0c38ab-3b18-4b5f-8a2c-7e0f6ab7f3a1/volumes/kubernetes.io~git-repo"
    source = bed.home / pod / "src"
    source.mkdir(parents=True)
    return _docker("--volume", f"{source}:/src")(bed)


def _sshd(bed: Bed) -> str:
    program = ("/usr/sbin/sshd", "-D")
    return _docker(
        *("--volume", f"{bed.rootfs}/bin/busybox:{program[0]}:ro"),
        *("--cgroup-parent", "/ctrwatchbed"),
        program=program,
    )(bed)


def in_registry(bed: Bed, name: str) -> str:
    """By a name of the registry that no other test uses."""
    _, _, port = bed.registry.host.rpartition(":")
    return f"localhost:{port}/{name}"


def _pulled(bed: Bed) -> str:
    """The first container from a registry."""
    name = in_registry(bed, "busybox:test")
    bed.docker.pull(name)
    return bed.docker.run(*SLEEP, image=name)


def _pretender(bed: Bed) -> str:
    container = secrets.token_hex(32)
    directory = unified() / "ctrwatchbed" / f"docker-{container}.scope"
    directory.mkdir(parents=True)
    return container


def _by_hand(bed: Bed) -> str:
    return bed.runc.run("by-hand", *SLEEP)


def _labels(bed: Bed) -> str:
    """A host without AppArmor and SELinux does not mind."""
    name = bed.lxc.create(
        "labelled",
        "lxc.init.cmd = /bin/sleep 600",
        "lxc.cap.drop = sys_module",
        "lxc.apparmor.profile = unconfined",
        "lxc.selinux.context = system_u:system_r:spc_t:s0",
    )
    bed.lxc.start(name)
    return name


def _build(bed: Bed) -> str:
    working = bed.podman.buildah("from", "--pull-never", IMAGE).strip()
    bed.podman.buildah("run", "--network", "none", working, "true")
    bed.podman.buildah("rm", working)
    return ""


OFFENDERS: Final = {
    "as it comes": Offender(
        "docker run IMAGE sleep 600",
        {
            RESTRICTED: "capabilities privilege-escalation non-root",
            CIS: "5.11-memory 5.12-cpu 5.13-read-only-root 5.26-new-privileges 5.29-pids",
            LSM: "5.2-apparmor 5.3-selinux",
            APPROVED: "image digest by-digest from-registry",
        },
        _docker(),
    ),
    "privileged": Offender(
        "docker run --privileged IMAGE",
        {
            BASELINE: "privileged",
            RESTRICTED: "privileged",
            CIS: "5.5-privileged",
            ATTACK: "privileged",
        },
        _docker("--privileged"),
    ),
    "host": Offender(
        "docker run --network host --pid host --ipc host --cap-add SYS_ADMIN --volume /:/host"
        " --security-opt seccomp=unconfined --security-opt systempaths=unconfined",
        {
            BASELINE: "host-namespaces capabilities host-path proc-mount seccomp",
            RESTRICTED: "host-namespaces capabilities host-path proc-mount seccomp",
            CIS: "5.4-capabilities 5.6-host-directories 5.10-host-network 5.16-host-pid"
            " 5.17-host-ipc 5.22-seccomp 5.32-docker-socket",
            ATTACK: "host-root capabilities host-pid proc-unmasked",
        },
        _docker(
            *("--network", "host", "--pid", "host", "--ipc", "host", "--cap-add", "SYS_ADMIN"),
            *("--volume", "/:/host", "--security-opt", "seccomp=unconfined"),
            *("--security-opt", "systempaths=unconfined"),
        ),
    ),
    "uts": Offender("docker run --uts host", {CIS: "5.21-host-uts"}, _docker("--uts", "host")),
    "sysctl": Offender(
        "docker run --sysctl net.ipv4.ip_forward=1",
        {BASELINE: "sysctls", RESTRICTED: "sysctls"},
        _docker("--sysctl", "net.ipv4.ip_forward=1"),
    ),
    "mounts": Offender(
        "docker run --volume /run/docker.sock:/s/docker.sock --volume /proc:/host/proc:ro"
        " --volume /etc:/host/etc --volume /shared:/shared:rshared",
        {
            ATTACK: "runtime-socket host-proc host-files",
            CIS: "5.6-host-directories 5.20-mount-propagation 5.32-docker-socket",
        },
        _mounts,
    ),
    "disk": Offender(
        "docker run --device /dev/loop0:/dev/fuse",
        {ATTACK: "host-devices", CIS: "5.18-host-devices"},
        _docker("--device", "/dev/loop0:/dev/fuse"),
    ),
    "sshd": Offender(
        "docker run --cgroup-parent /ctrwatchbed IMAGE /usr/sbin/sshd -D",
        {CIS: "5.7-sshd 5.25-cgroup"},
        _sshd,
    ),
    "git": Offender(
        "docker run --volume /var/lib/kubelet/pods/UID/volumes/kubernetes.io~git-repo/src:/src",
        {RESTRICTED: "volume-types"},
        _git_volume,
    ),
    "labels": Offender(
        "lxc-start, with lxc.apparmor.profile = unconfined, and an SELinux context of spc_t",
        {BASELINE: "apparmor selinux", RESTRICTED: "apparmor selinux"},
        _labels,
    ),
    "pulled": Offender(
        "docker run REGISTRY/IMAGE, the first from there", {ATTACK: "new-registry"}, _pulled
    ),
    "build": Offender("buildah run", {ATTACK: "build"}, _build),
    "by-hand": Offender("runc run", {ATTACK: "no-engine", APPROVED: "no-image"}, _by_hand),
    "pretender": Offender(
        "mkdir /sys/fs/cgroup/…/docker-ID.scope", {ATTACK: "unverified creator"}, _pretender
    ),
}
