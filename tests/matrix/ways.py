"""
The ways to make a container: the rows of docs/support.md. A new way is a function and a row.

A way makes its containers one after the other and yields what each must be announced
as, while it lives; then it removes them. What it can't do on this host it says by a
`BedError` or `NotHere`: the table carries the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.live.bed import Bed
from tests.live.daemons import command
from tests.live.runtimes import IMAGE, PAUSE, Cri, Docker, Runc
from tests.live.waiting import until

SLEEP: Final = ("sleep", "600")


class NotHere(Exception):  # noqa: N818 - it says why a way can't be gone on this host
    """One sentence."""


class Birth(NamedTuple):
    """
    A container that was made. Each yielded one is announced once, and nothing else is.

    `container_id` may be only its beginning, or "" where the runtime tells nobody.
    `fields` are what the event must say, besides.
    """

    container_id: str
    fields: dict[str, Any]


class Way(NamedTuple):
    name: str
    births: Callable[[Bed], Iterator[Birth]]


def docker(**fields: Any) -> dict[str, Any]:
    return {"runtime": "docker", "container_image": IMAGE, **fields}


# --- Docker ---------------------------------------------------------------------------


def docker_run(bed: Bed) -> Iterator[Birth]:
    container = bed.docker.run(*SLEEP, options=["--name", "web"])
    yield Birth(container, docker(container_name="web"))
    bed.docker.remove(container)


def docker_short(bed: Bed) -> Iterator[Birth]:
    for number in range(3):
        written = bed.home / f"short-{number}"
        bed.docker.cli("run", "--rm", "--cidfile", str(written), "--network", "none", IMAGE, "true")
        yield Birth(written.read_text(), docker())


def docker_cgroup_parent(bed: Bed) -> Iterator[Birth]:
    parent = "ctrwatchbed.slice" if bed.systemd else "/ctrwatchbed"
    container = bed.docker.run(*SLEEP, options=["--cgroup-parent", parent])
    yield Birth(container, docker())
    bed.docker.remove(container)


def docker_restart(bed: Bed) -> Iterator[Birth]:
    container = bed.docker.run(*SLEEP)
    yield Birth(container, docker())
    bed.docker.restart(container)
    yield Birth(container, docker())
    bed.docker.remove(container)


def docker_compose(bed: Bed) -> Iterator[Birth]:
    """As docker-compose names and labels its containers."""
    labels = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "web",
        "com.docker.compose.container-number": "1",
    }
    options = [word for pair in labels.items() for word in ("--label", "=".join(pair))]
    container = bed.docker.run(*SLEEP, options=["--name", "shop_web_1", *options])
    yield Birth(container, docker(container_name="shop_web_1", labels=labels))
    bed.docker.remove(container)


def docker_in_docker(bed: Bed) -> Iterator[Birth]:
    home = bed.home / "inner"
    home.mkdir()
    dockerd = (
        "dockerd --host unix:///inner/docker.sock --data-root /inner/data --exec-root /inner/exec"
        " --pidfile /inner/pid --iptables=false --ip6tables=false --bridge=none"
    )
    with machine(bed, home, dockerd) as outer:
        yield Birth(outer, docker())
        inner = Inner(home / "docker.sock")
        inner.load(bed.image.archive)
        container = inner.run(*SLEEP)
        yield Birth(container, docker(outer=[outer]))
        inner.remove(container)


def docker_build(bed: Bed) -> Iterator[Birth]:
    yield from _build(bed, "0", docker())


def buildkit(bed: Bed) -> Iterator[Birth]:
    yield from _build(bed, "1", {"runtime": "buildkit"})


def _build(bed: Bed, kit: str, fields: dict[str, Any]) -> Iterator[Birth]:
    """Two RUN steps: each is a container of its own, which lives for a moment."""
    context = bed.home / f"build-{kit}"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo one\nRUN echo two\n")
    bed.docker.cli(
        "build", "--no-cache", "--quiet", "--network", "none", str(context),
        environment={"DOCKER_BUILDKIT": kit},
    )  # fmt: skip
    for _ in range(2):
        yield Birth("", {key: fields[key] for key in fields if key == "runtime"})


# --- containerd and the CRI -----------------------------------------------------------


def ctr_namespaces(bed: Bed) -> Iterator[Birth]:
    for namespace in ("default", "shop", "bank"):
        # ctr asks for CPU shares by default, which a host without that controller refuses.
        bed.ctr.run("web", *SLEEP, namespace=namespace, options=["--cpu-shares", "0"])
        yield Birth("web", {"runtime": "containerd", "container_image": IMAGE})
        bed.ctr.remove("web", namespace)


def cri_pod(bed: Bed) -> Iterator[Birth]:
    """A sandbox, a container, and its second attempt: a new container of the same name."""
    need_cpu_controller()
    yield from _pod(bed.cri, outer=[])


def need_cpu_controller() -> None:
    """containerd's CRI sets a sandbox's CPU shares in any case."""
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if controllers.exists() and "cpu" not in controllers.read_text().split():
        raise NotHere("the CRI needs the cpu controller, which this host's cgroup v1 holds")


def _pod(cri: Cri, outer: list[str]) -> Iterator[Birth]:
    pod = cri.pod("checkout", "prod")
    known = {
        "runtime": "containerd",
        "pod_name": "checkout",
        "pod_namespace": "prod",
        "pod_uid": pod.uid,
        "outer": outer,
    }
    yield Birth(pod.id, {**known, "pod_sandbox": True, "container_image": PAUSE})
    container = {**known, "container_name": "app", "container_image": IMAGE}
    first = cri.run(pod, "app", "true")
    yield Birth(first, container)
    cri.wait(first)
    yield Birth(cri.run(pod, "app", *SLEEP, attempt=1), container)
    cri.remove_pod(pod)


def kind_shape(bed: Bed) -> Iterator[Birth]:
    """A node that is a container, as kind and minikube have it, and a pod in it."""
    need_cpu_controller()
    home = bed.home / "node"
    home.mkdir()
    (home / "config.toml").write_text(
        'version = 2\nroot = "/inner/root"\nstate = "/inner/state"\n'
        '[grpc]\naddress = "/inner/docker.sock"\n'
        '[plugins."io.containerd.grpc.v1.cri"]\n'
        f'sandbox_image = "{PAUSE}"\nrestrict_oom_score_adj = true\n'
    )
    with machine(bed, home, "containerd --config /inner/config.toml") as outer:
        yield Birth(outer, docker())
        with ExitStack() as stack:
            cri = Cri(home / "docker.sock", [bed.image, bed.pause], stack)
            yield from _pod(cri, outer=[outer])


# As the entry points of kind's node and of docker:dind: on cgroup v2 a cgroup that has
# processes can't give its controllers to those below it.
ENTRY: Final = """
for mount in $(grep ' /sys/fs/cgroup' /proc/mounts | cut -d' ' -f2); do
    mount -o remount,bind,rw $mount
done
if cd /sys/fs/cgroup && [ -f cgroup.controllers ]; then
    mkdir init
    for pid in $(cat cgroup.procs); do
        echo $pid >init/cgroup.procs || [ ! -d /proc/$pid ]
    done
    for controller in $(cat cgroup.controllers); do
        echo +$controller >cgroup.subtree_control
    done
fi
cd /
"""


@contextmanager
def machine(bed: Bed, home: Path, daemon: str) -> Iterator[str]:
    """A container that is a host of its own: a *daemon* with its socket in *home*; its id."""
    options = [
        "--cgroupns", "private", "--security-opt", "seccomp=unconfined",
        "--security-opt", "apparmor=unconfined", "--env", "PATH=/usr/sbin:/usr/bin:/bin",
        "--volume", f"{home}:/inner",
        *(word for path in ("/usr", "/lib", "/lib64") for word in ("-v", f"{path}:{path}:ro")),
        # `--privileged` asks for more than the tests may themselves have in a container.
        *(word for name in capabilities() for word in ("--cap-add", name)),
    ]  # fmt: skip
    container = bed.docker.run("/usr/bin/sh", "-c", f"{ENTRY}exec {daemon}", options=options)
    try:
        until(f"{daemon} listens", (home / "docker.sock").exists, deadline_s=60)
        yield container
    finally:
        bed.docker.remove(container)


class Inner(Docker):
    """A dockerd in a container, by its socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._client = "/usr/bin/docker"

    def load(self, archive: Path) -> None:
        until("the inner dockerd answers", lambda: bool(self.cli("version")), deadline_s=60)
        self.cli("load", "--quiet", "--input", str(archive))


def capabilities() -> Iterator[str]:
    """What this process could have at most, as Docker 20.10 spells it (linux/capability.h)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    bounding = int(next(line.split()[1] for line in lines if line.startswith("CapBnd")), 16)
    return (name for number, name in enumerate(CAPABILITIES) if bounding >> number & 1)


CAPABILITIES: Final = re.findall(
    r"\w+",
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO"
    " SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME"
    " SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG"
    " WAKE_ALARM BLOCK_SUSPEND AUDIT_READ",
)


# --- Podman and Buildah ---------------------------------------------------------------


def podman(**fields: Any) -> dict[str, Any]:
    return {"runtime": "podman", "container_image": IMAGE, **fields}


def podman_run(bed: Bed) -> Iterator[Birth]:
    container = bed.podman.run(*SLEEP, options=["--name", "db"])
    yield Birth(container, podman(container_name="db"))
    bed.podman.remove(container)


def podman_pod(bed: Bed) -> Iterator[Birth]:
    pod = bed.podman.pod("shop")
    infra = bed.podman.inspect_pod("shop")["InfraContainerID"]
    known = podman(pod_name="shop", pod_uid=pod)
    yield Birth(infra, {**known, "pod_sandbox": True, "container_image": PAUSE})
    container = bed.podman.run(*SLEEP, options=["--pod", "shop", "--name", "till"])
    yield Birth(container, {**known, "container_name": "till"})
    bed.podman.remove_pod("shop")


def podman_no_conmon(bed: Bed) -> Iterator[Birth]:
    container = bed.podman.run(*SLEEP, options=["--cgroups=no-conmon"])
    yield Birth(container, podman())
    bed.podman.remove(container)


def podman_split(bed: Bed) -> Iterator[Birth]:
    """In a systemd unit, where Podman divides the unit's own cgroup."""
    if not bed.systemd:
        raise NotHere("needs systemd: it divides a unit's own cgroup")
    unit, written = "ctrwatch-split", bed.home / "split"
    words = bed.podman.words(
        "run", "--cgroups=split", "--network", "none", "--cidfile", str(written), IMAGE, *SLEEP
    )
    settings = [f"--setenv={name}={value}" for name, value in bed.podman.environment.items()]
    command("systemd-run", "--unit", unit, "-p", "Delegate=yes", *settings, *words)
    until("the unit's container has an id", lambda: bool(_text(written)), deadline_s=120)
    container = _text(written)
    yield Birth(container, podman())
    bed.podman.remove(container)
    command("systemctl", "stop", unit)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def podman_rootless(bed: Bed) -> Iterator[Birth]:
    container = bed.rootless.run(*SLEEP)
    yield Birth(container, podman(**{"creator.uid": bed.rootless.uid}))
    bed.rootless.remove(container)


def buildah_run(bed: Bed) -> Iterator[Birth]:
    container = bed.podman.buildah("from", "--pull-never", IMAGE)
    bed.podman.buildah("run", "--network", "none", container, "true")
    yield Birth("", {"runtime": "buildah"})
    bed.podman.buildah("rm", container)


# --- nobody above the OCI runtime, and other machines ---------------------------------


def runc_run(bed: Bed) -> Iterator[Birth]:
    yield from _bare(bed.runc)


def crun_run(bed: Bed) -> Iterator[Birth]:
    yield from _bare(bed.crun)


def _bare(runtime: Runc) -> Iterator[Birth]:
    """Where the runtime puts it, and in a place of the caller's that has another name."""
    for name, place in (("bare", ""), ("moved", "/ctrwatchbed/elsewhere")):
        runtime.run(name, *SLEEP, cgroup=place)
        yield Birth(name, {"runtime": runtime.program, "container_name": name})
        runtime.remove(name)


def systemd_cgroup(bed: Bed) -> Iterator[Birth]:
    """systemd makes the cgroup of a container that only the OCI runtime's command line names."""
    if not bed.systemd:
        raise NotHere("needs systemd: it makes the cgroup")
    for runtime in (bed.runc, bed.crun):
        name = f"free-{runtime.program}"
        runtime.run(name, *SLEEP, cgroup=f"system.slice:ctrwatch:{name}", systemd=True)
        yield Birth(name, {"runtime": runtime.program, "container_name": name})
        runtime.remove(name)


def lxc(bed: Bed) -> Iterator[Birth]:
    container = bed.lxc.run("dove")
    yield Birth(container, {"runtime": "lxc", "container_name": "dove"})
    bed.lxc.remove(container)


def nspawn(bed: Bed) -> Iterator[Birth]:
    container = bed.nspawn.run("heron")
    yield Birth(container, {"runtime": "nspawn", "container_name": "heron"})
    bed.nspawn.remove(container)


WAYS: Final = (
    Way("`docker run`", docker_run),
    Way("`docker run --rm` of a program that ends at once", docker_short),
    Way("`docker run --cgroup-parent`", docker_cgroup_parent),
    Way("`docker restart`", docker_restart),
    Way("docker-compose's names and labels", docker_compose),
    Way("Docker in Docker: the outer and the inner container", docker_in_docker),
    Way("`docker build`, the classic builder's steps", docker_build),
    Way("`docker build`, BuildKit's steps", buildkit),
    Way("`ctr run` in three namespaces", ctr_namespaces),
    Way("CRI pod: sandbox, container, its second attempt (containerd)", cri_pod),
    Way("the same in a node that is a container, as kind has it", kind_shape),
    Way("`podman run`", podman_run),
    Way("Podman's pod: infra and member", podman_pod),
    Way("`podman run --cgroups=no-conmon`", podman_no_conmon),
    Way("`podman run --cgroups=split` in a systemd unit", podman_split),
    Way("`podman run` by a user", podman_rootless),
    Way("`buildah run`", buildah_run),
    Way("`runc run`", runc_run),
    Way("`crun run`", crun_run),
    Way("`runc` and `crun --systemd-cgroup run` with a free name", systemd_cgroup),
    Way("LXC", lxc),
    Way("systemd-nspawn", nspawn),
)
