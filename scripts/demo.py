"""`make demo`: a few short containers by every runtime that is there, for `ctrwatch events` to see.

The image is made here, no container has a network, and everything is removed again.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from scripts.images import BUSYBOX, Image, make_bundle, make_image, make_rootfs

CGROUPS = Path("/sys/fs/cgroup")
IMAGE = "localhost/ctrwatch-demo:latest"
NAMESPACE = "ctrwatch-demo"
BIRTHS = {"demo-short": ("true",), "demo-long": ("sleep", "1")}

# Without the host's leave to raise limits, Podman's default ones are too high.
PODMAN_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def docker(image: Image) -> None:
    command("docker", "load", "--input", image.archive)
    try:
        for name, program in BIRTHS.items():
            bear("docker", name, program,
                 "docker", "run", "--rm", "--network", "none", "--name", name, IMAGE, *program)  # fmt: skip
    finally:
        command("docker", "rmi", "--force", IMAGE)


def containerd(image: Image) -> None:
    ctr = ("ctr", "--namespace", NAMESPACE)
    command(*ctr, "image", "import", image.archive)
    try:
        for name, program in BIRTHS.items():
            bear("containerd", name, program, *ctr, "run", "--rm", IMAGE, name, *program)
    finally:
        command(*ctr, "image", "rm", "--sync", IMAGE)
        command("ctr", "namespace", "rm", NAMESPACE)
        for hierarchy in (CGROUPS, *CGROUPS.iterdir()):
            with suppress(OSError):
                (hierarchy / NAMESPACE).rmdir()


def podman(image: Image) -> None:
    options: list[str] = []
    if (CGROUPS / "unified").exists():
        options += ["--runtime", "runc"]  # crun refuses hosts with both versions of cgroups
    if not Path("/run/systemd/system").exists():
        options += ["--cgroup-manager", "cgroupfs"]
    command("podman", *options, "load", "--input", image.archive)
    try:
        for name, program in BIRTHS.items():
            bear("podman", name, program, "podman", *options, "run", "--rm", "--network", "none",
                 *PODMAN_LIMITS, "--name", name, IMAGE, *program)  # fmt: skip
    finally:
        command("podman", *options, "rmi", "--force", IMAGE)


def oci(runtime: str, rootfs: Path, home: Path) -> None:
    for name, program in BIRTHS.items():
        bundle = make_bundle(runtime, home / f"{runtime}-{name}", rootfs, program)
        bear(runtime, name, program, runtime, "run", "--bundle", bundle, f"{runtime}-{name}")


class Refused(Exception):  # noqa: N818  # the runtime's decision, not our error
    """What the runtime said."""


def bear(runtime: str, name: str, program: Sequence[str], *words: str | Path) -> None:
    command(*words)
    print(f"{runtime:<12}{name:<12}{' '.join(program)}", flush=True)


def command(*words: str | Path) -> None:
    result = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip() or f"exit code {result.returncode}"
        raise Refused(said.splitlines()[-1])


def answers(*words: str) -> bool:
    if shutil.which(words[0]) is None:
        return False
    try:
        command(*words)
    except Refused:
        return False
    return True


def runtimes(image: Image, rootfs: Path, home: Path) -> dict[str, Callable[[], None]]:
    """Those that would run a container now."""
    found: dict[str, Callable[[], None]] = {}
    if answers("docker", "version"):
        found["docker"] = partial(docker, image)
    if answers("ctr", "--connect-timeout", "500ms", "version"):
        found["containerd"] = partial(containerd, image)
    if answers("podman", "--version"):
        found["podman"] = partial(podman, image)
    for name in ("runc", "crun"):
        if answers(name, "--version"):
            found[name] = partial(oci, name, rootfs, home)
    return found


def main() -> int:
    if os.geteuid() != 0:
        print("error: only root may start containers: sudo make demo", file=sys.stderr)
        return 1
    if not BUSYBOX.exists():
        print("error: /bin/busybox is missing: apt install busybox-static", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="ctrwatch-demo-") as directory:
        home = Path(directory)
        rootfs = make_rootfs(home / "rootfs")
        image = make_image(home / "image.tar", IMAGE, rootfs, Cmd=["sh"])
        found = runtimes(image, rootfs, home)
        refused = 0
        for name, births in found.items():
            try:
                births()
            except Refused as why:
                refused += 1
                print(f"{name:<12}does not start containers here: {why}")
    if refused == len(found):
        print("error: no container runtime that works: apt install runc", file=sys.stderr)
        return 1
    print("That was all; the containers and their image are removed again.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
