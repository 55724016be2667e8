"""
Record the golden streams and the captured cgroup trees anew, from real runtimes.

    sudo .venv/bin/python -m tests.golden.record

Needs a host on which nothing else makes containers meanwhile. Read the difference
before you commit it: a golden file changes only when what ctrwatch says should change.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ctrwatch.sensor.host import read_host
from tests.golden.test_golden import HERE, replayed
from tests.live.bed import Bed
from tests.live.daemons import command
from tests.live.watching import Watching

TREES = HERE.parent / "data/cgroups"


def docker_run(bed: Bed, watching: Watching) -> None:
    container = bed.docker.run("sleep", "600", options=["--name", "web", "--memory", "64m"])
    watching.event("container_start", container)
    bed.docker.remove(container)
    watching.event("container_remove", container)


def docker_restart(bed: Bed, watching: Watching) -> None:
    container = bed.docker.run("sleep", "600", options=["--name", "again"])
    watching.event("container_start", container)
    bed.docker.restart(container)
    watching.event("container_start", container, nth=2)
    bed.docker.remove(container)
    watching.event("container_remove", container, nth=2)


def docker_run_rm(bed: Bed, watching: Watching) -> None:
    bed.docker.cli("run", "--rm", "--name", "short", "--network", "none", "busybox:test", "true")
    watching.until(lambda: names(watching).count("container_remove") == 1, "the removal")


def ctr_run(bed: Bed, watching: Watching) -> None:
    bed.ctr.run("web-1", "sleep", "600", namespace="golden")
    watching.event("container_start", "web-1")
    bed.ctr.remove("web-1", "golden")
    watching.event("container_remove", "web-1")


def cri_pod(bed: Bed, watching: Watching) -> None:
    pod = bed.cri.pod("checkout", "prod")
    container = bed.cri.run(pod, "app", "sleep", "600")
    watching.event("container_start", container)
    bed.cri.remove_pod(pod)
    watching.event("container_remove", pod.id)


def podman_run(bed: Bed, watching: Watching) -> None:
    container = bed.podman.run("sleep", "600", options=["--name", "db"])
    watching.event("container_start", container)
    bed.podman.remove(container)
    watching.event("container_remove", container)


def podman_pod(bed: Bed, watching: Watching) -> None:
    bed.podman.pod("shop")
    container = bed.podman.run("sleep", "600", options=["--pod", "shop", "--name", "till"])
    watching.event("container_start", container)
    bed.podman.remove_pod("shop")
    watching.until(lambda: names(watching).count("container_remove") == 2, "both removals")


SCENES: tuple[Callable[[Bed, Watching], None], ...] = (
    docker_run, docker_restart, docker_run_rm, ctr_run, cri_pod, podman_run, podman_pod,
)  # fmt: skip


def names(watching: Watching) -> list[str]:
    return [line.event["event"] for line in watching.lines]


def main() -> None:
    with Bed() as bed:
        bed.docker.remove(bed.docker.run("true"))  # what a runtime does only once is done now
        bed.ctr.run("warm", "true", namespace="golden")
        bed.ctr.remove("warm", "golden")
        bed.cri.remove_pod(bed.cri.pod("warm"))
        bed.podman.remove(bed.podman.run("true"))
        for scene in SCENES:
            stream = HERE / f"{scene.__name__}.stream.jsonl"
            with Watching("--no-existing", "--record", str(stream)) as watching:
                scene(bed, watching)
            for kind in ("json", "text"):
                suffix = {"json": "events.jsonl", "text": "txt"}[kind]
                (HERE / f"{scene.__name__}.{suffix}").write_bytes(replayed(stream, kind))
        capture_trees(bed)


def capture_trees(bed: Bed) -> None:
    """The cgroup tree with one container of each runtime in it."""
    running = {
        "docker": bed.docker.run("sleep", "600"),
        "podman": bed.podman.run("sleep", "600"),
    }
    pod = bed.cri.pod("tree")
    running["cri-containerd"] = bed.cri.run(pod, "app", "sleep", "600")
    host = read_host()
    for name, container in running.items():
        tops = {"docker": "docker", "podman": "libpod_parent", "cri-containerd": "kubepods"}
        lines = []
        for hierarchy in sorted(host.hierarchies.values()):
            top = Path(hierarchy.mount, tops[name])
            found = subprocess.run(
                ("find", top, "-type", "d"), capture_output=True, text=True, check=False
            ).stdout.split()
            paths = sorted(path.removeprefix(hierarchy.mount) for path in found)
            lines += [f"{hierarchy.hierarchy_id}:{hierarchy.controllers}:{path}" for path in paths]
        extra = [pod.id] if name == "cri-containerd" else []
        header = (
            f"# {name}, cgroupfs driver, {host.mode} cgroups, Linux {platform.release()}",
            f"# {command(PROGRAMS[name], '--version').splitlines()[0]}; runc; Debian 12",
            f"# by tests/golden/record.py, {datetime.now(UTC).date()}; as in /proc/PID/cgroup:",
            "# hierarchy:controllers:path",
            *(f"# container {each}" for each in (container, *extra)),
        )
        path = TREES / f"debian12-{name}-cgroupfs-{host.mode}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join((*header, *lines)) + "\n")


PROGRAMS = {"docker": "dockerd", "podman": "podman", "cri-containerd": "containerd"}


if __name__ == "__main__":
    main()
